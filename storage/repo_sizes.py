"""How many bytes repos hold over all their commits, each content of a repo once."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.models import FileRow, RevisionRow


def held_bytes(session: Session, repo_ids: Collection[int]) -> dict[int, int]:
    """Repo id -> bytes; a repo without files is left out."""
    contents = (
        select(RevisionRow.repo_id, FileRow.sha256, FileRow.size)
        .join(FileRow, FileRow.revision_id == RevisionRow.id)
        .where(RevisionRow.repo_id.in_(repo_ids))
        .distinct()
        .subquery()
    )
    rows = session.execute(select(contents.c.repo_id, func.sum(contents.c.size)).group_by(contents.c.repo_id))
    return {row[0]: int(row[1]) for row in rows}
