"""Branches and tags of a repo. A branch moves by compare-and-swap, a tag never moves, versions have rules of their own.

Within one repo a name means one thing only: branch, tag or alias. Knows revisions by their number in the database.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from storage import names, repos
from storage.clock import utc_now
from storage.errors import AlreadyExists, Conflict, InvalidName, NotFound
from storage.models import AliasRow, RefRow, RevisionRow
from storage.repos import Repo


@dataclass(frozen=True)
class Ref:
    """`kind` is "branch" or "tag"; `message` belongs to a tag."""

    kind: str
    name: str
    revision_id: int
    commit_id: str
    message: str | None
    updated_at: datetime


def every(session: Session, repo: Repo, *, kind: str | None = None) -> list[Ref]:
    """All branches and tags by name."""
    query = (
        select(RefRow, RevisionRow.commit_id)
        .join(RevisionRow, RevisionRow.id == RefRow.revision_id)
        .where(RefRow.repo_id == repo.id)
        .order_by(RefRow.kind, RefRow.name)
        .execution_options(populate_existing=True)
    )
    if kind is not None:
        query = query.where(RefRow.kind == kind)
    return [_ref(found[0], found[1]) for found in session.execute(query)]


def tags_on(session: Session, revision_ids: Collection[int]) -> list[Ref]:
    """The tags of these revisions, of whatever repos."""
    query = (
        select(RefRow, RevisionRow.commit_id)
        .join(RevisionRow, RevisionRow.id == RefRow.revision_id)
        .where(RefRow.kind == "tag", RefRow.revision_id.in_(revision_ids))
    )
    return [_ref(found[0], found[1]) for found in session.execute(query)]


def find(session: Session, repo: Repo, name: str) -> Ref | None:
    query = (
        select(RefRow, RevisionRow.commit_id)
        .join(RevisionRow, RevisionRow.id == RefRow.revision_id)
        .where(RefRow.repo_id == repo.id, RefRow.name == name)
        .execution_options(populate_existing=True)
    )
    found = session.execute(query).one_or_none()
    return _ref(found[0], found[1]) if found else None


def named(session: Session, repo: Repo, name: str) -> int | None:
    """The number of the revision that a branch, tag or alias names."""
    ref = session.scalar(select(RefRow.revision_id).where(RefRow.repo_id == repo.id, RefRow.name == name))
    if ref is not None:
        return ref
    return session.scalar(select(AliasRow.revision_id).where(AliasRow.repo_id == repo.id, AliasRow.name == name))


def create_branch(session: Session, repo: Repo, name: str, *, revision_id: int, now: datetime | None = None) -> Ref:
    """Raises InvalidName (also for a version form) or AlreadyExists."""
    if names.version_number(name) is not None:
        raise InvalidName(f"{name!r} cannot be the name of a branch: it is the form of a version.")
    return add(session, repo, "branch", name, revision_id=revision_id, now=now)


def move_branch(
    session: Session, repo: Repo, name: str, *, revision_id: int, expected_id: int, now: datetime | None = None
) -> None:
    """Compare and swap. Raises Conflict when the branch is not at `expected_id`."""
    moved = session.execute(
        update(RefRow)
        .where(
            RefRow.repo_id == repo.id, RefRow.kind == "branch", RefRow.name == name, RefRow.revision_id == expected_id
        )
        .values(revision_id=revision_id, updated_at=now or utc_now())
        .returning(RefRow.id)
    ).one_or_none()
    if moved is None:
        here = find(session, repo, name)
        expected = session.scalar(select(RevisionRow.commit_id).where(RevisionRow.id == expected_id))
        raise Conflict(
            f"{repo.full_name}@{name} is at {here.commit_id if here else 'no commit'}, expected {expected}.",
            expected=expected,
            found=here.commit_id if here else None,
            remedy="Read it again and repeat the change.",
        )


def delete_branch(session: Session, repo: Repo, name: str) -> None:
    """Its revisions stay. Raises NotFound, or Conflict for `main`."""
    if name == "main":
        raise Conflict(f"The branch main of {repo.full_name} cannot be deleted.", remedy="Delete the repo instead.")
    remove(session, repo, "branch", name)


def create_tag(
    session: Session, repo: Repo, name: str, *, revision_id: int, message: str | None = None,
    now: datetime | None = None,
) -> Ref:  # fmt: skip
    """A tag that is not a version; `versions.give` makes those."""
    if names.version_number(name) is not None:
        raise InvalidName(f"{name!r} is a version; it must be given as one.")
    return add(session, repo, "tag", name, revision_id=revision_id, message=message, now=now)


def delete_tag(session: Session, repo: Repo, name: str) -> None:
    """A tag that is not a version; `versions.delete` takes those away."""
    if names.version_number(name) is not None:
        raise InvalidName(f"{name!r} is a version; it must be deleted as one.")
    remove(session, repo, "tag", name)


def add(
    session: Session, repo: Repo, kind: str, name: str, *, revision_id: int, message: str | None = None,
    now: datetime | None = None,
) -> Ref:  # fmt: skip
    """A new name under any rule but the version rules; callers outside this package use the functions above."""
    names.check_ref(name)
    repos.lock(session, repo)
    if (there := find(session, repo, name)) is not None:
        raise AlreadyExists(f"{repo.full_name} has a {there.kind} {name!r} already, at {there.commit_id}.")
    if named(session, repo, name) is not None:
        raise AlreadyExists(f"{repo.full_name} has an alias {name!r} already.")
    row = RefRow(
        repo_id=repo.id, kind=kind, name=name, revision_id=revision_id, message=message, updated_at=now or utc_now()
    )
    session.add(row)
    session.flush()
    return _ref(row, session.scalars(select(RevisionRow.commit_id).where(RevisionRow.id == revision_id)).one())


def remove(session: Session, repo: Repo, kind: str, name: str) -> None:
    """Take a name away under any rule but the version rules. Raises NotFound."""
    repos.lock(session, repo)
    gone = session.execute(
        delete(RefRow).where(RefRow.repo_id == repo.id, RefRow.kind == kind, RefRow.name == name).returning(RefRow.id)
    ).one_or_none()
    if gone is None:
        raise NotFound(f"{repo.full_name} has no {kind} {name!r}.")


def _ref(row: RefRow, commit_id: str) -> Ref:
    return Ref(row.kind, row.name, row.revision_id, commit_id, row.message, row.updated_at)
