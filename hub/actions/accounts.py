"""Accounts, organisations, members and tokens of a hub; and what its first start sets up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hub import token_format
from hub.errors import UsageError
from hub.home import Home
from storage import accounts, members, repos, server_keys, tokens
from storage.accounts import LOCAL, Account
from storage.clock import utc_now
from storage.errors import AlreadyExists, NotFound
from storage.names import check_name
from storage.tokens import StoredToken

ADMIN = "admin"
UPLOADS_KEY = "uploads"
"""The key that signs addresses and tokens of uploads."""


@dataclass(frozen=True)
class NewToken:
    """`token` is shown once, and kept nowhere."""

    token: str
    stored: StoredToken


@dataclass(frozen=True)
class ListedToken:
    id: int
    account: str
    name: str
    role: str
    namespace: str | None
    created_at: datetime
    expires_at: datetime | None
    state: str
    """"valid", "expired" or "revoked"."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def first_start(home: Home) -> str | None:
    """What a server does before it serves: returns the administrator's token if there was no administrator yet.

    What the account `local` and its namespaces hold is private from now on: it was published without a server, for
    nobody but its owner.
    """
    with home.write() as session:
        server_keys.key(session, UPLOADS_KEY)
        _close_local(session)
        if any(account.is_admin for account in accounts.every(session)):
            return None
        admin = accounts.set_admin(session, accounts.ensure(session, ADMIN), is_admin=True)
        return _new_token(session, admin, role="admin", name="first start").token


def create_user(home: Home, name: str, *, is_admin: bool = False) -> Account:
    """Raises InvalidName or AlreadyExists."""
    with home.write() as session:
        account = _create(session, name, kind="user")
        return accounts.set_admin(session, account, is_admin=is_admin)


def create_org(home: Home, name: str, *, owner: str) -> Account:
    """Raises InvalidName, AlreadyExists, or NotFound for the owner."""
    with home.write() as session:
        return _create(session, name, kind="org", owner=accounts.find(session, owner))


def adopt(home: Home, namespace: str, *, user: str) -> Account:
    """Hand a namespace that was published without a server (or any organisation) over to a user."""
    with home.write() as session:
        owner = accounts.find(session, user)
        account = accounts.find(session, namespace)
        if account.name == LOCAL or account.kind == "user":
            raise UsageError(
                f"{namespace} is an account of its own",
                remedy="only organisations, such as `team` of team/sql, change hands",
            )
        return accounts.set_owner(session, account, owner)


def put_member(home: Home, org: str, *, user: str, role: str | None) -> None:
    """`role` None: no member any more."""
    if role not in (None, *members.ROLES):
        raise UsageError(f"'{role}' is not a role", remedy="roles are read, write, admin")
    with home.write() as session:
        where, who = accounts.find(session, org), accounts.find(session, user)
        if where.kind != "org":
            raise UsageError(f"{org} is not an organisation", remedy=f"mixhub org create NAME --owner {user}")
        if role is None:
            members.remove(session, where, who)
        else:
            members.put(session, where, who, role)


def create_token(
    home: Home, user: str, *, role: str, name: str = "", namespace: str = "", days: float | None = None
) -> NewToken:
    """Raises NotFound for the user or namespace, UsageError for the role."""
    if role not in members.ROLES:
        raise UsageError(f"'{role}' is not a role", remedy="roles are read, write, admin")
    with home.write() as session:
        account = accounts.find(session, user)
        confined = accounts.find(session, namespace) if namespace else None
        expires = None if days is None else utc_now() + timedelta(days=days)
        return _new_token(session, account, role=role, name=name, namespace=confined, expires=expires)


def list_tokens(home: Home, user: str = "") -> list[ListedToken]:
    with home.read() as session:
        found = tokens.every(session, accounts.find(session, user) if user else None)
    return [_listed(token) for token in found]


def revoke_token(home: Home, token_id: int) -> ListedToken:
    """Raises NotFound."""
    with home.write() as session:
        return _listed(tokens.revoke(session, token_id))


def _create(session: Session, name: str, *, kind: str, owner: Account | None = None) -> Account:
    check_name(name, what="account")
    try:
        there = accounts.find(session, name)
    except NotFound:
        return accounts.ensure(session, name, kind=kind, owner=owner)
    raise AlreadyExists(f"There is {there.kind} {there.name!r} already.")


def _new_token(
    session: Session, account: Account, *, role: str, name: str = "", namespace: Account | None = None,
    expires: datetime | None = None,
) -> NewToken:  # fmt: skip
    token = token_format.new_token()
    stored = tokens.add(
        session, account, name=name or f"{role} token", sha256=token_format.digest(token), role=role,
        namespace=namespace, expires_at=expires,
    )  # fmt: skip
    return NewToken(token, stored)


def _close_local(session: Session) -> None:
    local = accounts.ensure(session)
    owned = [account for account in accounts.every(session) if account.id == local.id or account.owner_id == local.id]
    for account in owned:
        for repo in repos.every(session, account=account.name):
            if repo.visibility == "public":
                repos.set_access(session, repo, visibility="private", gated=repo.gated)


def _listed(token: StoredToken) -> ListedToken:
    expired = token.expires_at is not None and token.expires_at <= utc_now()
    state = "revoked" if token.revoked_at else "expired" if expired else "valid"
    return ListedToken(
        token.id,
        token.account,
        token.name,
        token.role,
        token.namespace,
        token.created_at.replace(microsecond=0),
        token.expires_at,
        state,
    )
