"""Who likes which repo. The repo's row holds the count, for listings."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from storage.accounts import Account
from storage.clock import utc_now
from storage.models import AccountRow, RepoLikeRow, RepoRow
from storage.repos import Repo
from storage.upsert import insert_missing


def put(session: Session, repo: Repo, account: Account, *, now: datetime | None = None) -> None:
    """Once is enough: again changes nothing."""
    insert_missing(
        session, RepoLikeRow, [{"repo_id": repo.id, "account_id": account.id, "created_at": now or utc_now()}]
    )
    _count(session, repo)


def remove(session: Session, repo: Repo, account: Account) -> None:
    session.execute(
        delete(RepoLikeRow).where(RepoLikeRow.repo_id == repo.id, RepoLikeRow.account_id == account.id)
    )  # fmt: skip
    _count(session, repo)


def likers(session: Session, repo: Repo) -> list[str]:
    """Account names, the first liker first."""
    return list(
        session.scalars(
            select(AccountRow.name)
            .join(RepoLikeRow, RepoLikeRow.account_id == AccountRow.id)
            .where(RepoLikeRow.repo_id == repo.id)
            .order_by(RepoLikeRow.created_at, AccountRow.name_key)
        )
    )


def liked_by(session: Session, account: Account, *, readers: Collection[int] | None) -> list[tuple[str, datetime]]:
    """(ns/name, liked at) of live repos, the latest first; private ones only of the accounts `readers` (None: all)."""
    query = (
        select(AccountRow.name + "/" + RepoRow.name, RepoLikeRow.created_at)
        .join(RepoRow, RepoRow.id == RepoLikeRow.repo_id)
        .join(AccountRow, AccountRow.id == RepoRow.account_id)
        .where(RepoLikeRow.account_id == account.id, RepoRow.deleted_at.is_(None))
        .order_by(RepoLikeRow.created_at.desc(), RepoRow.id)
    )
    if readers is not None:
        query = query.where(or_(RepoRow.visibility == "public", RepoRow.account_id.in_(readers)))
    return [(row[0], row[1]) for row in session.execute(query)]


def _count(session: Session, repo: Repo) -> None:
    likes = select(func.count()).where(RepoLikeRow.repo_id == repo.id).scalar_subquery()
    session.execute(update(RepoRow).where(RepoRow.id == repo.id).values(likes=likes))
