"""What listings show of a revision: the front matter of its card, and tags to filter by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from storage import names, revisions
from storage.models import RevisionRow, RevisionTagRow
from storage.revisions import Revision

MAX_TAG = 512


def record(session: Session, revision: Revision, *, card: Mapping[str, Any], tags: Iterable[str]) -> None:
    """Replaces what was noted before. Tags that no database could keep are left out."""
    session.execute(update(RevisionRow).where(RevisionRow.id == revision.id).values(card=dict(card)))
    session.execute(delete(RevisionTagRow).where(RevisionTagRow.revision_id == revision.id))
    kept = sorted({names.check_text(tag, what="tag") for tag in tags if 0 < len(tag) <= MAX_TAG})
    if kept:
        session.execute(insert(RevisionTagRow), [{"revision_id": revision.id, "tag": tag} for tag in kept])


def card_of(session: Session, revision_id: int) -> dict[str, Any] | None:
    """None: nobody looked at the card yet."""
    return session.scalar(select(RevisionRow.card).where(RevisionRow.id == revision_id))


def unseen(session: Session, *, limit: int) -> list[Revision]:
    """Revisions whose card nobody looked at yet, oldest first."""
    query = select(RevisionRow.id).where(RevisionRow.card.is_(None)).order_by(RevisionRow.id).limit(limit)
    return [revisions.by_id(session, found) for found in session.scalars(query)]


def tags_of(session: Session, revision_ids: Iterable[int]) -> dict[int, list[str]]:
    """revision id -> its tags, sorted."""
    found: dict[int, list[str]] = {}
    query = select(RevisionTagRow).where(RevisionTagRow.revision_id.in_(list(revision_ids)))
    for row in session.scalars(query.order_by(RevisionTagRow.tag)):
        found.setdefault(row.revision_id, []).append(row.tag)
    return found
