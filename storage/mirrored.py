"""Revisions of another hub, kept here under the commit ids that they have there: what was read from it, by commit.

Only some of a revision's files may be here. Nothing is ever committed on top of one, and no version is given to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from storage import refs, revisions
from storage.clock import utc_now
from storage.models import FileRow, RevisionRow
from storage.repos import Repo
from storage.revisions import MAIN, File, Revision


@dataclass(frozen=True)
class Origin:
    """What the other hub says of the revision."""

    commit_id: str
    title: str = ""
    state: str = "ok"
    reason: str | None = None


def add(
    session: Session, repo: Repo, origin: Origin, files: Sequence[File], *, now: datetime | None = None
) -> Revision:  # fmt: skip
    """The revision with at least these files; those that it has here already stay."""
    row_id = session.scalar(
        select(RevisionRow.id).where(RevisionRow.repo_id == repo.id, RevisionRow.commit_id == origin.commit_id)
    )
    if row_id is None:
        row = RevisionRow(
            repo_id=repo.id, commit_id=origin.commit_id, tree_digest=revisions.tree_digest(files), parent_id=None,
            author="mirror", title=origin.title, message="", created_at=now or utc_now(), state=origin.state,
            reason=origin.reason,
        )  # fmt: skip
        session.add(row)
        session.flush()
        row_id = row.id
    there = set(session.scalars(select(FileRow.path).where(FileRow.revision_id == row_id)))
    new = [
        {
            "revision_id": row_id, "path": file.path, "size": file.size, "sha256": file.sha256,
            "git_sha1": file.git_sha1, "pointer_sha1": file.pointer_sha1, "upload_mode": file.upload_mode,
        }
        for file in files
        if file.path not in there
    ]  # fmt: skip
    if new:
        session.execute(insert(FileRow), new)
    return revisions.by_id(session, row_id)


def point_main(session: Session, repo: Repo, revision: Revision) -> None:
    """Let `main` name the revision, wherever it was before."""
    here = refs.find(session, repo, MAIN)
    if here is None:
        refs.create_branch(session, repo, MAIN, revision_id=revision.id)
    elif here.revision_id != revision.id:
        refs.move_branch(session, repo, MAIN, revision_id=revision.id, expected_id=here.revision_id)
