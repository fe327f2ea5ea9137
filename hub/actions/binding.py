"""What a published adapter is tied to: its base model, and what was said about it before."""

from __future__ import annotations

import re
from dataclasses import replace

from sqlalchemy.orm import Session

from hub.address import Address
from hub.card_facts import UsageContract
from hub.errors import UsageError
from hub.inspect_adapter import Inspected
from storage import bases
from storage.adapters import AdapterFacts

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def bind(session: Session, one: Inspected) -> str | None:
    """Record the adapter's base; returns its identity, or None for an unbound adapter.

    Where every module fits, the name in the adapter's config becomes a name of that base, if it means nothing yet: the
    next adapter that names it is bound without --base.
    """
    if one.base is None:
        return None
    base = one.base.record(session)
    written = one.facts.base_model_name
    fits = one.facts.modules_matched is not None and not one.facts.missing_modules
    if fits and written and _HUB_NAME.fullmatch(written) and bases.find_base(session, written) is None:
        base = bases.add_name(session, base, written, kind="hub")
    return base.identity


def settled(known: AdapterFacts | None, facts: AdapterFacts, *, address: Address, given: UsageContract) -> AdapterFacts:
    """The facts of bytes that are there already: what was left open may be said now, what was said stays.

    `UsageError` for another base or another usage contract than those of the revision, which never changes.
    """
    if known is None:
        return facts
    if None not in (facts.base_identity, known.base_identity) and facts.base_identity != known.base_identity:
        raise UsageError(
            f"this content is published already, bound to the base {str(known.base_identity)[:12]}, not "
            f"{str(facts.base_identity)[:12]}; a revision never changes",
            remedy=f"publish it under another name than {address.adapter_id}",
        )
    if facts.base_identity is None and known.base_identity is not None:
        facts = replace(
            facts, base_identity=known.base_identity, modules_matched=known.modules_matched,
            missing_modules=known.missing_modules,
        )  # fmt: skip
    settled = {name: value for name, value in vars(known.usage).items() if value}
    for name, value in vars(given).items():
        if value and settled.get(name, value) != value:
            raise UsageError(
                f"this content is published already with the {name.replace('_', ' ')} {settled[name]!r}; a revision "
                "never changes",
                remedy="write it under 'mixhub:' in README.md, which makes a new version",
            )
    return replace(facts, usage=replace(facts.usage, **settled))
