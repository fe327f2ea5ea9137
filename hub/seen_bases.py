"""Base models as one caller of a server may know them.

A base has names of several kinds. A path is this machine's own business, a repo's name may be a private one; so on a
server every look at a base by name, and every name that is told, goes through here.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.orm import Session

from hub import access
from hub.access import Caller
from hub.base_lookup import FoundBase
from hub.errors import RepoNotFound
from hub.home import Home
from storage import bases
from storage.bases import Base, BaseName

_ORDER = {"repo": 0, "hub": 1, "quantised": 2, "path": 3}


def may_know(session: Session, caller: Caller | None, name: BaseName) -> bool:
    """Whether the caller may be told that the base has this name. Caller None: without a server, where all is told."""
    if caller is None:
        return True
    if name.kind != "repo":
        return name.kind != "path"
    namespace, _, rest = name.name.partition("@")[0].partition("/")
    try:
        access.visible_repo(session, caller, namespace, rest.partition("/")[0], follow=False)
    except RepoNotFound:
        return False
    return True


def names_of(session: Session, caller: Caller | None, base: Base) -> list[BaseName]:
    """Best first: a repo's or a hub's name before a path, short before long."""
    told = [name for name in base.names if may_know(session, caller, name)]
    return sorted(told, key=lambda name: (_ORDER[name.kind], len(name.name), name.name))


def shown_names(session: Session, caller: Caller | None, identities: Iterable[str | None]) -> dict[str, str]:
    """Base identity -> the name to show for it, or the start of the identity where there is none to tell."""
    shown = {}
    for identity in {identity for identity in identities if identity}:
        base = bases.find_base(session, identity)
        names = names_of(session, caller, base) if base else []
        shown[identity] = names[0].name if names else identity[:12]
    return shown


def base_for(session: Session, caller: Caller | None, text: str) -> Base | None:
    """The base that a name or identity means to this caller."""
    base = bases.find_base(session, text)
    if base is None:
        return None
    meant = [name for name in base.names if name.name == text]
    return base if all(may_know(session, caller, name) for name in meant) else None


def base_named(home: Home, caller: Caller, name: str) -> FoundBase | None:
    """The base that a name in a stranger's config or request means: one known here; never a path, or an identity."""
    with home.read() as session:
        known = base_for(session, caller, name)
    kind = next((other.kind for other in known.names if other.name == name), None) if known else None
    return FoundBase(name, kind, known.facts, None) if known and kind else None


def details(session: Session, caller: Caller, identity: str) -> tuple[Base, list[BaseName]] | None:
    """A base with the names that the caller may know. None also for one that has only names of others' private repos:
    what such a model looks like is not for strangers, though a public adapter may be bound to it."""
    base = bases.find_base(session, identity) if len(identity) == 64 else None
    if base is None or base.identity != identity:
        return None
    told = names_of(session, caller, base)
    hidden = any(name.kind == "repo" for name in base.names) and not any(name.kind == "repo" for name in told)
    return None if hidden else (base, told)
