"""Large files of all commits of a repo, and letting go of those that no ref leads to any more.

Commits never change, so no file is taken out of one. What can go are whole commits that no branch, tag, alias or mix
leads to, as they are left behind by squashing and by deleting branches; `blob_records.sweep_unused` frees the bytes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from storage import repos
from storage.errors import Conflict, NotFound
from storage.models import AliasEventRow, CompositionParentRow, FileRow, RefRow, RevisionRow
from storage.repos import Repo


@dataclass(frozen=True)
class LfsFile:
    sha256: str
    path: str
    """Where it lay last; it may have had other names."""
    pointer_sha1: str
    size: int
    pushed_at: datetime
    """Of the first commit that has it."""
    branch: str | None
    """A branch whose head has it."""


def every(session: Session, repo: Repo) -> list[LfsFile]:
    """Each content once, the last pushed first."""
    query = (
        select(
            FileRow.sha256, func.max(FileRow.path), func.max(FileRow.pointer_sha1), func.max(FileRow.size),
            func.min(RevisionRow.created_at), func.max(RefRow.name),
        )
        .join(RevisionRow, RevisionRow.id == FileRow.revision_id)
        .outerjoin(RefRow, (RefRow.revision_id == RevisionRow.id) & (RefRow.kind == "branch"))
        .where(RevisionRow.repo_id == repo.id, FileRow.upload_mode == "lfs")
        .group_by(FileRow.sha256)
        .order_by(func.min(RevisionRow.created_at).desc(), FileRow.sha256)
    )  # fmt: skip
    return [LfsFile(*row) for row in session.execute(query)]


def remove(session: Session, repo: Repo, sha256s: Collection[str]) -> int:
    """Remove the commits that hold one of these contents, and what was built on them. Returns how many went.

    Raises NotFound where no commit holds it, Conflict where a branch, tag, alias or mix leads to one that does.
    """
    repos.lock(session, repo)
    ids = select(RevisionRow.id).where(RevisionRow.repo_id == repo.id)
    holding: dict[int, str] = {}
    for sha256 in sha256s:
        found = session.scalars(
            select(FileRow.revision_id).where(
                FileRow.revision_id.in_(ids), FileRow.sha256 == sha256, FileRow.upload_mode == "lfs"
            )
        ).all()
        if not found:
            raise NotFound(f"{repo.full_name} has no LFS file {sha256}.")
        holding |= dict.fromkeys(found, sha256)
    rows = session.execute(select(RevisionRow.id, RevisionRow.parent_id).where(RevisionRow.repo_id == repo.id))
    parents = {row[0]: row[1] for row in rows}
    kept = _led_to(session, repo, parents)
    if in_use := sorted(holding[revision] for revision in holding.keys() & kept):
        raise Conflict(
            f"A branch, tag, alias or mix leads to a commit of {repo.full_name} with {in_use[0]}: it stays.",
            remedy="Delete the file and the tags, squash the branch (super_squash_history), and try again.",
        )
    doomed: set[int] = set()
    for revision in sorted(parents):  # parents are older than their children
        if revision in holding or parents[revision] in doomed:
            doomed.add(revision)
    for revision in sorted(doomed, reverse=True):  # each by itself: none may go before its children
        session.execute(delete(RevisionRow).where(RevisionRow.id == revision))
    return len(doomed)


def _led_to(session: Session, repo: Repo, parents: dict[int, int | None]) -> set[int]:
    """The commits that something names, and their ancestors."""
    named = [
        *session.scalars(select(RefRow.revision_id).where(RefRow.repo_id == repo.id)),
        *session.scalars(select(AliasEventRow.revision_id).where(AliasEventRow.repo_id == repo.id)),
        *session.scalars(select(CompositionParentRow.revision_id).where(CompositionParentRow.repo_id == repo.id)),
    ]
    kept: set[int] = set()
    while named:
        revision: int | None = named.pop()
        while revision is not None and revision not in kept:
            kept.add(revision)
            revision = parents.get(revision)
    return kept
