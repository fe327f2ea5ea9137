"""Repos: making, finding, renaming, hiding. Deleting hides a repo; what compositions and aliases pin stays."""

from __future__ import annotations

import uuid as uuids
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storage import accounts, names, tombstones
from storage.accounts import Account
from storage.clock import utc_now
from storage.errors import AlreadyExists, Conflict, NotFound
from storage.models import AccountRow, RepoRow


@dataclass(frozen=True)
class Repo:
    """A repo as it was when it was read. `id` is the database's, `uuid` (32 hex) is for ever."""

    id: int
    uuid: str
    account: str
    account_id: int
    name: str
    kind: str
    visibility: str
    """"public" or "private"."""
    gated: str | None
    """"auto", "manual" or None: not gated."""
    created_at: datetime
    deleted_at: datetime | None
    downloads: int
    likes: int = 0

    @property
    def full_name(self) -> str:
        return f"{self.account}/{self.name}"


def create(
    session: Session,
    account: str,
    name: str,
    *,
    visibility: str = "public",
    gated: str | None = None,
    now: datetime | None = None,
) -> Repo:
    """A new, empty repo of an existing account. Raises InvalidName, NotFound (account) or AlreadyExists."""
    names.check_name(name)
    owner = accounts.find(session, account)
    row = RepoRow(
        uuid=uuids.uuid4().hex, account_id=owner.id, name=name, name_key=names.key(name), kind="model",
        visibility=visibility, gated=gated, created_at=now or utc_now(), deleted_at=None, downloads=0, likes=0,
    )  # fmt: skip
    if _live(session, owner, name) is not None:
        raise _taken(owner, name)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:  # made by another transaction since we looked (PostgreSQL)
        if _live(session, owner, name) is None:
            raise
        raise _taken(owner, name) from None
    return from_row(row, owner.name)


def find(session: Session, account: str, name: str) -> Repo:
    """The live repo of this name, whatever its case. Raises NotFound."""
    found = session.execute(
        _rows().where(
            AccountRow.name_key == names.key(account),
            RepoRow.name_key == names.key(name),
            RepoRow.deleted_at.is_(None),
        )
    ).one_or_none()
    if found is None:
        raise NotFound(f"There is no repo {account}/{name}.", remedy="`mixhub ls` lists the repos that there are.")
    return from_row(found[0], found[1])


def by_id(session: Session, repo_id: int) -> Repo:
    """Live or deleted. Raises NotFound."""
    found = session.execute(_rows().where(RepoRow.id == repo_id)).one_or_none()
    if found is None:
        raise NotFound(f"There is no repo with the number {repo_id}.")
    return from_row(found[0], found[1])


def by_uuid(session: Session, uuid: str) -> Repo:
    """Live or deleted. Raises NotFound."""
    found = session.execute(_rows().where(RepoRow.uuid == uuid)).one_or_none()
    if found is None:
        raise NotFound(f"There is no repo with the uuid {uuid}.")
    return from_row(found[0], found[1])


def every(session: Session, *, account: str | None = None) -> list[Repo]:
    """All live repos, or those of one account, by name."""
    query = _rows().where(RepoRow.deleted_at.is_(None)).order_by(AccountRow.name_key, RepoRow.name_key)
    if account is not None:
        query = query.where(AccountRow.name_key == names.key(account))
    return [from_row(found[0], found[1]) for found in session.execute(query)]


def lock(session: Session, repo: Repo) -> None:
    """Let no other writer decide about this repo until the transaction ends.

    Raises NotFound if it was deleted since `repo` was read, Conflict if it was renamed: its versions go by its name.
    """
    query = select(RepoRow.account_id, RepoRow.name).where(RepoRow.id == repo.id, RepoRow.deleted_at.is_(None))
    found = session.execute(query.with_for_update()).one_or_none()
    if found is None:
        raise NotFound(f"The repo {repo.full_name} was deleted.")
    if (found[0], found[1]) != (repo.account_id, repo.name):
        now_called = by_id(session, repo.id).full_name
        raise Conflict(
            f"The repo {repo.full_name} is called {now_called} now.", expected=repo.full_name, found=now_called
        )


def rename(
    session: Session, repo: Repo, *, account: str | None = None, name: str | None = None, actor: str,
    now: datetime | None = None,
) -> Repo:  # fmt: skip
    """Give the repo another name or owner. Its versions stay forbidden to other content under the old name.

    Raises AlreadyExists, or VersionTaken where the new name once had a version of one of ours with other content.
    """
    lock(session, repo)
    owner = accounts.find(session, account or repo.account)
    new = names.check_name(name or repo.name)
    there = _live(session, owner, new)
    if there is not None and there != repo.id:
        raise _taken(owner, new)
    if (owner.id, names.key(new)) != (repo.account_id, names.key(repo.name)):
        tombstones.check_move(session, repo.id, account_id=owner.id, repo_name=new)
        tombstones.bury_all(session, repo, cause="repo renamed", actor=actor, now=now)
    values = {"account_id": owner.id, "name": new, "name_key": names.key(new)}
    try:
        with session.begin_nested():
            session.execute(update(RepoRow).where(RepoRow.id == repo.id).values(values))
    except IntegrityError:
        if _live(session, owner, new) in (None, repo.id):
            raise
        raise _taken(owner, new) from None
    return by_id(session, repo.id)


def set_access(session: Session, repo: Repo, *, visibility: str, gated: str | None) -> Repo:
    """Who may read: visibility "public" or "private"; gated "auto", "manual" or None."""
    session.execute(update(RepoRow).where(RepoRow.id == repo.id).values(visibility=visibility, gated=gated))
    return by_id(session, repo.id)


def count_download(session: Session, repo: Repo) -> None:
    session.execute(update(RepoRow).where(RepoRow.id == repo.id).values(downloads=RepoRow.downloads + 1))


def delete(session: Session, repo: Repo, *, actor: str, now: datetime | None = None) -> None:
    """Hide the repo and free its name. Its versions are recorded: under this name they never become other content."""
    lock(session, repo)
    tombstones.bury_all(session, repo, cause="repo deleted", actor=actor, now=now)
    session.execute(update(RepoRow).where(RepoRow.id == repo.id).values(deleted_at=now or utc_now()))


def _rows() -> Select[RepoRow, str]:
    # rows are read anew: an update() in this session must show
    query = select(RepoRow, AccountRow.name).join(AccountRow, AccountRow.id == RepoRow.account_id)
    return query.execution_options(populate_existing=True)


def _live(session: Session, owner: Account, name: str) -> int | None:
    return session.scalar(
        select(RepoRow.id).where(
            RepoRow.account_id == owner.id, RepoRow.name_key == names.key(name), RepoRow.deleted_at.is_(None)
        )
    )


def _taken(owner: Account, name: str) -> AlreadyExists:
    return AlreadyExists(f"The repo {owner.name}/{name} exists already (case does not count).")


def from_row(row: RepoRow, account: str) -> Repo:
    """For this package only."""
    return Repo(
        id=row.id, uuid=row.uuid, account=account, account_id=row.account_id, name=row.name, kind=row.kind,
        visibility=row.visibility, gated=row.gated, created_at=row.created_at, deleted_at=row.deleted_at,
        downloads=row.downloads, likes=row.likes,
    )  # fmt: skip
