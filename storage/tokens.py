"""Tokens of accounts, kept as sha256: the token itself is never stored. How a token looks is decided elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session, aliased

from storage.accounts import Account
from storage.clock import utc_now
from storage.errors import NotFound
from storage.models import AccountRow, TokenRow


@dataclass(frozen=True)
class StoredToken:
    """`role` is "read", "write" or "admin"; `namespace` None: it acts wherever its account may."""

    id: int
    account: str
    name: str
    role: str
    namespace: str | None
    namespace_id: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def add(
    session: Session, account: Account, *, name: str, sha256: str, role: str, namespace: Account | None = None,
    expires_at: datetime | None = None, now: datetime | None = None,
) -> StoredToken:  # fmt: skip
    row = TokenRow(
        account_id=account.id, name=name, sha256=sha256, role=role,
        namespace_id=namespace.id if namespace else None, created_at=now or utc_now(), expires_at=expires_at,
        revoked_at=None,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return _stored(row, account.name, namespace.name if namespace else None)


def by_digest(session: Session, sha256: str, *, now: datetime | None = None) -> StoredToken | None:
    """The token with this digest; None where there is none, or it was revoked or has expired."""
    time = now or utc_now()
    for token in _tokens(session, TokenRow.sha256 == sha256):
        if token.revoked_at is None and (token.expires_at is None or token.expires_at > time):
            return token
    return None


def every(session: Session, account: Account | None = None) -> list[StoredToken]:
    """Oldest first; of one account or of all."""
    return _tokens(session, *([TokenRow.account_id == account.id] if account else []))


def revoke(session: Session, token_id: int, *, now: datetime | None = None) -> StoredToken:
    """It is refused from now on. Raises NotFound."""
    session.execute(
        update(TokenRow)
        .where(TokenRow.id == token_id, TokenRow.revoked_at.is_(None))
        .values(revoked_at=now or utc_now())
    )
    found = _tokens(session, TokenRow.id == token_id)
    if not found:
        raise NotFound(f"There is no token number {token_id}.", remedy="`mixhub token list` shows them.")
    return found[0]


def _tokens(session: Session, *conditions: ColumnElement[bool]) -> list[StoredToken]:
    namespace = aliased(AccountRow)
    query = (
        select(TokenRow, AccountRow.name, namespace.name)
        .join(AccountRow, AccountRow.id == TokenRow.account_id)
        .outerjoin(namespace, namespace.id == TokenRow.namespace_id)
        .where(*conditions)
        .order_by(TokenRow.id)
        .execution_options(populate_existing=True)
    )
    return [_stored(row[0], row[1], row[2]) for row in session.execute(query)]


def _stored(row: TokenRow, account: str, namespace: str | None) -> StoredToken:
    return StoredToken(
        row.id, account, row.name, row.role, namespace, row.namespace_id, row.created_at, row.expires_at,
        row.revoked_at,
    )  # fmt: skip
