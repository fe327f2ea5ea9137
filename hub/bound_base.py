"""The base that adapters are bound to: by identity, whatever lies at its names today."""

from __future__ import annotations

from sqlalchemy.orm import Session

from compose.errors import ComposeError
from hub.base_lookup import FoundBase, find_base, same_model
from hub.errors import UnknownBase
from hub.home import Home
from storage import bases


def recorded_base(session: Session, identity: str) -> FoundBase | None:
    """The base under one of its names, from its row alone: no file is looked at. None where it has no name."""
    known = bases.find_base(session, identity)
    if known is None or not known.names:
        return None
    return FoundBase(known.names[0].name, known.names[0].kind, known.facts, None)


def bound_base(home: Home, identity: str, *, option: str) -> FoundBase:
    """The base with its files on this machine. A folder that holds another model by now is passed over.

    `UnknownBase` when none of its names leads to its files; `option` is what the remedy tells to give.
    """
    with home.read() as session:
        known = bases.find_base(session, identity)
    for name in known.names if known else ():
        try:
            found = find_base(home, name.name)
            here = find_base(home, str(found.directory)) if found and found.directory else None
        except ComposeError:  # a damaged folder is not the base either
            continue
        if known and found and here and same_model(here.facts, known.facts):
            return found
    called = ", ".join(name.name for name in known.names) if known else identity[:12]
    raise UnknownBase(f"the files of the base model {called} are not on this machine, or were changed", remedy=option)
