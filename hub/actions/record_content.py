"""Notes what was found out about a revision: facts of its adapters, lineage, card, tags, the base model that it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from hub.base_lookup import FoundBase
from hub.revision_content import Content
from hub.summary import tags_of
from storage import adapters, bases, compositions, summaries
from storage.revisions import Revision

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def record_content(
    session: Session, head: Revision | None, new: Revision, contents: Mapping[str, Content | None],
    *, card: Mapping[str, Any],
) -> None:  # fmt: skip
    """`contents`: adapter folder -> what it is; None: as it was in `head`, whose facts and lineage it keeps."""
    for content in contents.values():
        if content is not None:
            facts = replace(content.facts, base_identity=_bind(session, content))
            adapters.record_facts(session, new, facts)
    if head is not None:
        _carry(session, head, new, {folder for folder, content in contents.items() if content is None})
    record_summary(session, new, card=card)


def copy_content(session: Session, old: Revision, new: Revision) -> None:
    """`new` has the files of `old`: facts, lineage, card and tags are the same."""
    _carry(session, old, new, set(adapters.folders_of(session, old)))
    record_summary(session, new, card=summaries.card_of(session, old.id) or {})


def record_summary(session: Session, revision: Revision, *, card: Mapping[str, Any]) -> None:
    """Card and tags, from the card and the facts that are recorded by now."""
    facts = adapters.facts_of_all(session, [revision.id])[revision.id]
    summaries.record(session, revision, card=card, tags=tags_of(card, facts))


def record_base(session: Session, base: FoundBase) -> None:
    """Let the repo's name mean this base. Raises Conflict where it means another one."""
    base.record(session)


def _bind(session: Session, content: Content) -> str | None:
    """The identity of the adapter's base; where every module fits, its written name becomes a name of that base."""
    if content.base is None:
        return None
    facts = content.facts
    base = content.base.record(session)
    written = facts.base_model_name
    fits = facts.modules_matched is not None and not facts.missing_modules
    if fits and written and _HUB_NAME.fullmatch(written) and bases.find_base(session, written) is None:
        base = bases.add_name(session, base, written, kind="hub")
    return base.identity


def _carry(session: Session, head: Revision, new: Revision, folders: set[str]) -> None:
    adapters.copy_facts(session, head, new, folders)
    for folder in folders.intersection(compositions.folders_of(session, head)):
        made_of = compositions.composition_of(session, head.id, folder)
        if made_of is not None:
            compositions.record(session, new, made_of, folder=folder)
