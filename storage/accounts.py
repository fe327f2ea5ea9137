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
    owner_id: int | None
    """Of an org: the account that may write to it. A home without a server: `local` owns every namespace."""
    created_at: datetime


def ensure(
    session: Session, name: str = LOCAL, *, kind: str = "user", owner: Account | None = None,
    now: datetime | None = None,
) -> Account:  # fmt: skip
    """The account of this name, made if it does not exist. An existing account keeps its kind and owner."""
    names.check_name(name, what="account")
    row = {
        "name": name, "name_key": names.key(name), "kind": kind, "owner_id": owner.id if owner else None,
        "created_at": now or utc_now(),
    }  # fmt: skip
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
    return Account(row.id, row.name, row.kind, row.owner_id, row.created_at)
