"""Letting go of deleted repos: their revisions go, except for those that an alias or a mix pins, and their ancestors.

The repo's row and its tombstones stay for ever; the blobs that nothing holds any more go with the next
`blob_records.sweep_unused`.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from storage.models import AliasEventRow, CompositionParentRow, RefRow, RepoRow, RevisionRow


def reclaim(session: Session, *, deleted_before: datetime) -> int:
    """Remove the unpinned revisions of repos deleted before this time. Returns how many revisions went."""
    gone = select(RepoRow.id).where(RepoRow.deleted_at < deleted_before)
    session.execute(delete(RefRow).where(RefRow.repo_id.in_(gone)))
    removed = 0
    while leaves := _unpinned_leaves(session, deleted_before):  # a mix that goes may be what pinned another repo
        session.execute(delete(RevisionRow).where(RevisionRow.id.in_(leaves)))
        removed += len(leaves)
    return removed


def _unpinned_leaves(session: Session, deleted_before: datetime) -> list[int]:
    """Up to 500 revisions that are no commit's parent, no mix's parent and in no alias's history."""
    child = RevisionRow.__table__.alias("child")
    return list(
        session.scalars(
            select(RevisionRow.id)
            .join(RepoRow, RepoRow.id == RevisionRow.repo_id)
            .where(
                RepoRow.deleted_at < deleted_before,
                ~exists().where(child.c.parent_id == RevisionRow.id),
                ~exists().where(CompositionParentRow.revision_id == RevisionRow.id),
                ~exists().where(AliasEventRow.revision_id == RevisionRow.id),
            )
            .limit(500)
        )
    )
