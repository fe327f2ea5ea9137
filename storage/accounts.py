"""Accounts: who owns repos and brings blobs. Tokens and memberships are not here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from storage import names
from storage.clock import utc_now
from storage.errors import InvalidName, NotFound
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
    is_admin: bool = False
    """May do everything, with a token of the role admin."""


def ensure(
    session: Session, name: str = LOCAL, *, kind: str = "user", owner: Account | None = None,
    now: datetime | None = None,
) -> Account:  # fmt: skip
    """The account of this name, made if it does not exist. An existing account keeps its kind and owner."""
    names.check_name(name, what="account")
    if (there := session.scalar(_rows().where(AccountRow.name_key == names.key(name)))) is not None:
        return _account(there)  # nothing is written, so that a home on a full disk opens
    row = {
        "name": name, "name_key": names.key(name), "kind": kind, "owner_id": owner.id if owner else None,
        "created_at": now or utc_now(),
    }  # fmt: skip
    insert_missing(session, AccountRow, [row])
    return find(session, name)


def find(session: Session, name: str) -> Account:
    """The account of this name, whatever its case. Raises NotFound."""
    row = session.scalar(_rows().where(AccountRow.name_key == names.key(name)))
    if row is None:
        raise NotFound(f"There is no account {name!r}.")
    return _account(row)


def by_id(session: Session, account_id: int) -> Account:
    """Raises NotFound."""
    row = session.scalar(_rows().where(AccountRow.id == account_id))
    if row is None:
        raise NotFound(f"There is no account with the number {account_id}.")
    return _account(row)


def set_admin(session: Session, account: Account, *, is_admin: bool) -> Account:
    session.execute(update(AccountRow).where(AccountRow.id == account.id).values(is_admin=is_admin))
    return by_id(session, account.id)


def set_owner(session: Session, account: Account, owner: Account) -> Account:
    """Hand a namespace over. Raises InvalidName for a circle."""
    if account.id == owner.id:
        raise InvalidName(f"{account.name} cannot own itself.")
    session.execute(update(AccountRow).where(AccountRow.id == account.id).values(owner_id=owner.id))
    return by_id(session, account.id)


def every(session: Session) -> list[Account]:
    """All accounts by name."""
    return [_account(row) for row in session.scalars(_rows().order_by(AccountRow.name_key))]


def _rows() -> Select[AccountRow]:
    return select(AccountRow).execution_options(populate_existing=True)  # an update() in this session must show


def _account(row: AccountRow) -> Account:
    return Account(row.id, row.name, row.kind, row.owner_id, row.created_at, row.is_admin)
