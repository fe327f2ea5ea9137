"""Accounts: who owns repos and brings blobs. Passwords, tokens and memberships are not here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import names
from storage.clock import utc_now
from storage.errors import NotFound
from storage.models import AccountRow
from storage.upsert import insert_missing

LOCAL = "local"
"""The account that owns what is published into a home without a server."""


@dataclass(frozen=True)
class Account:
    id: int
    name: str
    kind: str
    """"user" or "org"."""
    created_at: datetime


def ensure(session: Session, name: str = LOCAL, *, kind: str = "user", now: datetime | None = None) -> Account:
    """The account of this name, made if it does not exist. The kind of an existing account stays as it is."""
    names.check_name(name, what="account")
    row = {"name": name, "name_key": names.key(name), "kind": kind, "created_at": now or utc_now()}
    insert_missing(session, AccountRow, [row])
    return find(session, name)


def find(session: Session, name: str) -> Account:
    """The account of this name, whatever its case. Raises NotFound."""
    row = session.scalar(select(AccountRow).where(AccountRow.name_key == names.key(name)))
    if row is None:
        raise NotFound(f"There is no account {name!r}.")
    return _account(row)


def every(session: Session) -> list[Account]:
    """All accounts by name."""
    return [_account(row) for row in session.scalars(select(AccountRow).order_by(AccountRow.name_key))]


def _account(row: AccountRow) -> Account:
    return Account(row.id, row.name, row.kind, row.created_at)
