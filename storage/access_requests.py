"""Requests to read the files of gated repos."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from storage.accounts import Account
from storage.clock import utc_now
from storage.models import AccessRequestRow, AccountRow
from storage.repos import Repo
from storage.upsert import insert_missing


def put(session: Session, repo: Repo, account: Account, status: str, *, now: datetime | None = None) -> None:
    """Note a request or the answer to it: "pending", "accepted" or "rejected"."""
    row = {"repo_id": repo.id, "account_id": account.id, "status": status, "created_at": now or utc_now()}
    insert_missing(session, AccessRequestRow, [row])
    session.execute(
        update(AccessRequestRow)
        .where(AccessRequestRow.repo_id == repo.id, AccessRequestRow.account_id == account.id)
        .values(status=status)
    )


def status(session: Session, repo: Repo, account_id: int) -> str | None:
    """None: never asked."""
    return session.scalar(
        select(AccessRequestRow.status).where(
            AccessRequestRow.repo_id == repo.id, AccessRequestRow.account_id == account_id
        )
    )


def listed(session: Session, repo: Repo, status: str) -> list[tuple[str, datetime]]:
    """(account name, asked at) of all requests in this state."""
    found = session.execute(
        select(AccountRow.name, AccessRequestRow.created_at)
        .join(AccessRequestRow, AccessRequestRow.account_id == AccountRow.id)
        .where(AccessRequestRow.repo_id == repo.id, AccessRequestRow.status == status)
        .order_by(AccessRequestRow.created_at)
    )
    return [(row[0], row[1]) for row in found]
