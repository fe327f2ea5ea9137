"""Versions that are gone: which content each one was, under which repo name, so that it never becomes other content.

Keyed by account and repo name, because a repo may be deleted and made again under its old name. Used by `repos` and
`versions`; knows neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import names
from storage.clock import utc_now
from storage.errors import VersionTaken
from storage.models import RefRow, RevisionRow, VersionTombstoneRow


class Named(Protocol):
    """What is needed of a repo."""

    @property
    def id(self) -> int: ...
    @property
    def account_id(self) -> int: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Tombstone:
    """Version `number` of `repo_name` was the tree `tree_digest`; `cause` says what ended it."""

    repo_name: str
    number: int
    tree_digest: str
    cause: str
    deleted_by: str
    deleted_at: datetime


def bury(
    session: Session, repo: Named, *, number: int, tree_digest: str, cause: str, actor: str, now: datetime | None = None
) -> None:
    """Record that the version has gone. `cause`: "version deleted", "repo deleted" or "repo renamed"."""
    session.add(
        VersionTombstoneRow(
            account_id=repo.account_id,
            repo_name=repo.name,
            repo_name_key=names.key(repo.name),
            number=number,
            tree_digest=tree_digest,
            cause=cause,
            deleted_by=actor,
            deleted_at=now or utc_now(),
        )
    )
    session.flush()


def bury_all(session: Session, repo: Named, *, cause: str, actor: str, now: datetime | None = None) -> None:
    """Record every live version of the repo under its present name."""
    for number, tree_digest in _live_versions(session, repo.id).items():
        bury(session, repo, number=number, tree_digest=tree_digest, cause=cause, actor=actor, now=now)


def of(session: Session, *, account_id: int, repo_name: str) -> list[Tombstone]:
    """All tombstones under this repo name, oldest first."""
    rows = session.scalars(
        select(VersionTombstoneRow)
        .where(VersionTombstoneRow.account_id == account_id, VersionTombstoneRow.repo_name_key == names.key(repo_name))
        .order_by(VersionTombstoneRow.id)
    )
    return [
        Tombstone(row.repo_name, row.number, row.tree_digest, row.cause, row.deleted_by, row.deleted_at) for row in rows
    ]


def check_version(session: Session, repo: Named, *, number: int, tree_digest: str) -> None:
    """Raise VersionTaken if the version was once the name of another tree."""
    for tombstone in of(session, account_id=repo.account_id, repo_name=repo.name):
        if tombstone.number == number and tombstone.tree_digest != tree_digest:
            raise _was_other(repo.name, tombstone, tree_digest)


def check_move(session: Session, repo_id: int, *, account_id: int, repo_name: str) -> None:
    """Raise VersionTaken if a live version of the repo was once other content under the name it is to get."""
    live = _live_versions(session, repo_id)
    for tombstone in of(session, account_id=account_id, repo_name=repo_name):
        if (digest := live.get(tombstone.number)) not in (None, tombstone.tree_digest):
            raise _was_other(repo_name, tombstone, digest)


def _live_versions(session: Session, repo_id: int) -> dict[int, str]:
    """number -> tree digest"""
    found = session.execute(
        select(RefRow.name, RevisionRow.tree_digest)
        .join(RevisionRow, RevisionRow.id == RefRow.revision_id)
        .where(RefRow.repo_id == repo_id, RefRow.kind == "tag")
    )
    return {number: digest for name, digest in found if (number := names.version_number(name)) is not None}


def _was_other(repo_name: str, tombstone: Tombstone, found: str | None) -> VersionTaken:
    return VersionTaken(
        f"{repo_name}@v{tombstone.number} was other content until {tombstone.deleted_at:%Y-%m-%d} "
        f"({tombstone.cause} by {tombstone.deleted_by}); a version is never given to other content.",
        expected=tombstone.tree_digest,
        found=found,
        remedy="Use the next free version (leave out --version).",
    )
