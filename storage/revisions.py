"""Revisions: making a commit out of stored blobs, and reading commits and their files.

A revision never changes, except for `state` (see `set_state`). Its commit id is 40 hex digits over the repo's uuid, the
tree, the parent, the author, the time and the message; the tree digest beside it tells whether content changed at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.orm import Session, aliased

from storage import blob_records, names, refs, repos
from storage.blobs.hashing import pointer_sha1
from storage.clock import utc_now
from storage.errors import Conflict, NotFound, StorageError
from storage.models import FileRow, RevisionRow
from storage.repos import Repo

MAIN = "main"


@dataclass(frozen=True)
class File:
    """A file of a revision. `upload_mode` is "regular" or "lfs": how clients see it, not how it is stored."""

    path: str
    size: int
    sha256: str
    git_sha1: str
    upload_mode: str = "lfs"

    @property
    def pointer_sha1(self) -> str:
        """The git blob id of the LFS pointer: what clients see as the oid of an lfs file."""
        return pointer_sha1(self.sha256, self.size)

    @property
    def oid(self) -> str:
        """The git blob id that a git client would show for this file."""
        return self.pointer_sha1 if self.upload_mode == "lfs" else self.git_sha1


@dataclass(frozen=True)
class Revision:
    """A commit. `parent` is a commit id of the same repo; None for the first one."""

    id: int
    repo_id: int
    commit_id: str
    tree_digest: str
    parent: str | None
    author: str
    title: str
    message: str
    created_at: datetime
    state: str
    """"ok", "incomplete" or "broken"; `reason` says why it is not ok."""
    reason: str | None


@dataclass(frozen=True)
class Created:
    """`created` is False when the branch had this content already: then `revision` is its head."""

    revision: Revision
    created: bool


def create_revision(
    session: Session, repo: Repo, files: Sequence[File], *, parent: str | None, author: str, title: str,
    message: str = "", branch: str = MAIN, state: str = "ok", reason: str | None = None, now: datetime | None = None,
) -> Created:  # fmt: skip
    """Commit `files` (the whole tree, not a change) on top of `branch` and move it.

    `parent` is the commit id that the caller built on, None for a branch that does not exist yet. Raises Conflict when
    the branch is somewhere else by now, InvalidName for a path, NotFound or Conflict for blobs that are not recorded as
    the files say. Content that the branch has already makes no revision, whatever `parent` says.
    """
    names.check_paths(file.path for file in files)
    for text, what in ((author, "author"), (title, "title"), (message, "message")):
        names.check_text(text, what=what)
    repos.lock(session, repo)
    head = _head(session, repo, branch)
    digest = tree_digest(files)
    if head is not None and head.tree_digest == digest:
        return Created(head, created=False)
    _check_parent(repo, branch, expected=parent, head=head)
    _check_blobs(session, files)
    time = now or utc_now()
    row = RevisionRow(
        repo_id=repo.id, commit_id=commit_id(repo.uuid, digest, parent, author, time, title, message),
        tree_digest=digest, parent_id=head.id if head else None, author=author, title=title, message=message,
        created_at=time, state=state, reason=reason,
    )  # fmt: skip
    session.add(row)
    session.flush()
    _add_files(session, row.id, files)
    if head is None:
        refs.create_branch(session, repo, branch, revision_id=row.id, now=time)
    else:
        refs.move_branch(session, repo, branch, revision_id=row.id, expected_id=head.id, now=time)
    return Created(from_row(row, parent), created=True)


def squash(
    session: Session, repo: Repo, branch: str, *, author: str, title: str, now: datetime | None = None
) -> Revision:
    """Let `branch` begin anew with one commit that has its files. The old commits stay, for tags and for their ids."""
    names.check_text(title, what="title")
    repos.lock(session, repo)
    head = _head(session, repo, branch)
    if head is None:
        raise NotFound(f"{repo.full_name} has no branch {branch!r}.")
    time = now or utc_now()
    row = RevisionRow(
        repo_id=repo.id, commit_id=commit_id(repo.uuid, head.tree_digest, None, author, time, title, ""),
        tree_digest=head.tree_digest, parent_id=None, author=author, title=title, message="", created_at=time,
        state=head.state, reason=head.reason,
    )  # fmt: skip
    session.add(row)
    session.flush()
    _add_files(session, row.id, files_of(session, head))
    refs.move_branch(session, repo, branch, revision_id=row.id, expected_id=head.id, now=time)
    return from_row(row, None)


def tree_digest(files: Iterable[File]) -> str:
    """sha256 over the sorted (path, sha256, upload mode) of a tree; 64 hex digits."""
    listed = sorted((file.path, file.sha256, file.upload_mode) for file in files)
    return hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()


def commit_id(
    repo_uuid: str, tree: str, parent: str | None, author: str, time: datetime, title: str, message: str
) -> str:
    """The first 40 hex digits of a sha256: clients take only ids of the form of a git commit."""
    content = [repo_uuid, tree, [parent] if parent else [], author, time.isoformat(), title, message]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()[:40]


def resolve(session: Session, repo: Repo, name: str = MAIN) -> Revision:
    """The revision that a branch, tag, version, alias, commit id or a prefix of one (7 digits or more) names."""
    revision_id = refs.named(session, repo, name)
    found = _one(session, RevisionRow.id == revision_id) if revision_id is not None else None
    if found is None and names.looks_like_commit(name):
        found = _by_prefix(session, repo, name)
    if found is None:
        raise NotFound(
            f"{repo.full_name} has no branch, version, alias or commit {name!r}.",
            remedy=f"`mixhub show {repo.full_name}` lists what there is.",
        )
    return found


def of_commit(session: Session, commit_id: str) -> Revision | None:
    """The revision with this full commit id in any repo, deleted ones included: commit ids hold the repo's uuid.

    For what was pinned earlier only. It asks nobody whether the reader may see the repo.
    """
    return _one(session, RevisionRow.commit_id == commit_id)


def by_id(session: Session, revision_id: int) -> Revision:
    found = _one(session, RevisionRow.id == revision_id)
    if found is None:
        raise NotFound(f"There is no revision with the number {revision_id}.")
    return found


def files_of(session: Session, revision: Revision) -> list[File]:
    """All files by path."""
    rows = session.scalars(select(FileRow).where(FileRow.revision_id == revision.id).order_by(FileRow.path))
    return sorted((_file(row) for row in rows), key=lambda file: file.path)


def files_of_all(session: Session, revision_ids: Collection[int]) -> dict[int, list[File]]:
    """Revision id -> all files by path, for many revisions in one query."""
    found: dict[int, list[File]] = {revision_id: [] for revision_id in revision_ids}
    rows = session.scalars(select(FileRow).where(FileRow.revision_id.in_(revision_ids)))
    for row in sorted(rows, key=lambda row: row.path):
        found[row.revision_id].append(_file(row))
    return found


def file_at(session: Session, revision: Revision, path: str) -> File | None:
    row = session.get(FileRow, (revision.id, path))
    return _file(row) if row else None


def log(session: Session, revision: Revision, *, limit: int | None = None) -> list[Revision]:
    """The revision and its ancestors, newest first."""
    found = [revision]
    while found[-1].parent is not None and (limit is None or len(found) < limit):
        parent = _one(session, RevisionRow.repo_id == revision.repo_id, RevisionRow.commit_id == found[-1].parent)
        if parent is None:
            raise StorageError(f"The parent {found[-1].parent} of {found[-1].commit_id} is missing.")
        found.append(parent)
    return found[:limit]


def set_state(session: Session, revision: Revision, state: str, *, reason: str | None = None) -> Revision:
    """Note what a later look at the files has shown: "ok", "incomplete" or "broken"."""
    session.execute(update(RevisionRow).where(RevisionRow.id == revision.id).values(state=state, reason=reason))
    return by_id(session, revision.id)


def _head(session: Session, repo: Repo, branch: str) -> Revision | None:
    head = refs.find(session, repo, branch)
    if head is not None and head.kind != "branch":
        raise Conflict(f"{branch!r} is a {head.kind} of {repo.full_name}; only a branch takes commits.")
    return by_id(session, head.revision_id) if head else None


def _check_parent(repo: Repo, branch: str, *, expected: str | None, head: Revision | None) -> None:
    found = head.commit_id if head else None
    if expected != found:
        raise Conflict(
            f"{repo.full_name}@{branch} is at {found or 'no commit'}, this commit was made on top of "
            f"{expected or 'nothing'}: somebody else has changed it since.",
            expected=expected,
            found=found,
            remedy="Read it again and repeat the change.",
        )


def _check_blobs(session: Session, files: Sequence[File]) -> None:
    stored = blob_records.stored(session, [file.sha256 for file in files])
    for file in files:
        blob = stored.get(file.sha256)
        if blob is None:
            raise NotFound(f"The content of {file.path} (sha256 {file.sha256}) is not stored.", remedy="Upload it.")
        if (blob.size, blob.git_sha1) != (file.size, file.git_sha1):
            raise Conflict(
                f"{file.path} is said to have {file.size} bytes and git sha1 {file.git_sha1}, "
                f"its content has {blob.size} and {blob.git_sha1}.",
                expected=file.git_sha1,
                found=blob.git_sha1,
            )


def _add_files(session: Session, revision_id: int, files: Sequence[File]) -> None:
    if files:
        rows = [
            {
                "revision_id": revision_id, "path": file.path, "size": file.size, "sha256": file.sha256,
                "git_sha1": file.git_sha1, "pointer_sha1": file.pointer_sha1, "upload_mode": file.upload_mode,
            }
            for file in files
        ]  # fmt: skip
        session.execute(insert(FileRow), rows)


def _by_prefix(session: Session, repo: Repo, prefix: str) -> Revision | None:
    begins = RevisionRow.commit_id == prefix if len(prefix) == 40 else RevisionRow.commit_id.startswith(prefix)
    matches = session.scalars(select(RevisionRow.id).where(RevisionRow.repo_id == repo.id, begins).limit(2)).all()
    if len(matches) > 1:
        raise Conflict(f"More than one commit of {repo.full_name} begins with {prefix}.", remedy="Give more digits.")
    return by_id(session, matches[0]) if matches else None


def _one(session: Session, *conditions: ColumnElement[bool]) -> Revision | None:
    parent = aliased(RevisionRow)
    query = (
        select(RevisionRow, parent.commit_id)
        .outerjoin(parent, parent.id == RevisionRow.parent_id)
        .where(*conditions)
        .execution_options(populate_existing=True)  # an update() in this session must show
    )
    found = session.execute(query).one_or_none()
    return from_row(found[0], found[1]) if found else None


def from_row(row: RevisionRow, parent: str | None) -> Revision:
    """For this package only. `parent` is a commit id."""
    return Revision(
        id=row.id, repo_id=row.repo_id, commit_id=row.commit_id, tree_digest=row.tree_digest, parent=parent,
        author=row.author, title=row.title, message=row.message, created_at=row.created_at, state=row.state,
        reason=row.reason,
    )  # fmt: skip


def _file(row: FileRow) -> File:
    return File(row.path, row.size, row.sha256, row.git_sha1, row.upload_mode)
