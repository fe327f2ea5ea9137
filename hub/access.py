"""Who calls, and what they may see and do. The only place with such rules; routes and actions ask here.

Roles are read < write < admin; a repo's settings, moving and deleting take admin in its namespace. A token that reads
only reads, one that writes does what its account may, and only one with the role admin makes an administrator of the
hub. A token for one namespace gives nothing outside it. What a caller may not see is, in every answer, the same as
what does not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from hub import token_format
from hub.errors import GatedRepo, InvalidToken, NotAllowed, RepoNotFound, SignInFirst
from storage import access_requests, accounts, members, redirects, repos, tokens
from storage.accounts import Account
from storage.errors import NotFound
from storage.repos import Repo

RANK = {"read": 1, "write": 2, "admin": 3}


@dataclass(frozen=True)
class Caller:
    """`account` None: nobody is signed in."""

    account: Account | None = None
    role: str = "read"
    """Of the token: what it is for."""
    token_name: str = ""
    roles: Mapping[int, str] = field(default_factory=dict)
    """Account id of a namespace -> what this caller may do there; with a token that reads, only that."""
    everything: bool = False
    """An administrator of the hub, with a token for that."""
    confined: bool = False
    """The token is for one namespace only."""

    @property
    def name(self) -> str:
        return self.account.name if self.account else "anonymous"

    @property
    def anonymous(self) -> bool:
        return self.account is None

    def may(self, account_id: int, role: str) -> bool:
        """Whether it has `role` in the namespace of this account."""
        return self.everything or RANK.get(self.roles.get(account_id, ""), 0) >= RANK[role]

    @property
    def readers(self) -> Collection[int] | None:
        """The namespaces whose private repos it reads; None: all."""
        return None if self.everything else self.roles.keys()


NOBODY = Caller()


def caller_of(session: Session, token: str | None) -> Caller:
    """Raises InvalidToken, also for text that is no token: a typo must not look like signing out."""
    if token is None:
        return NOBODY
    stored = tokens.by_digest(session, token_format.digest(token)) if token_format.is_well_formed(token) else None
    if stored is None:
        raise InvalidToken("Invalid credentials in Authorization header")
    account = accounts.find(session, stored.account)
    confined = stored.namespace_id
    roles = {
        where: "read" if stored.role == "read" else role
        for where, role in members.roles_of(session, account).items()
        if confined in (None, where)
    }
    everything = account.is_admin and stored.role == "admin" and confined is None
    return Caller(account, stored.role, stored.name, roles, everything, confined is not None)


def visible_repo(session: Session, caller: Caller, namespace: str, name: str, *, follow: bool = True) -> Repo:
    """The live repo, also under a former name. Raises RepoNotFound, the same for missing and forbidden ones."""
    repo: Repo | None
    try:
        repo = repos.find(session, namespace, name)
    except NotFound:
        repo = redirects.follow(session, namespace, name) if follow else None
    if repo is None or not (repo.visibility == "public" or caller.may(repo.account_id, "read")):
        raise RepoNotFound(f"{namespace}/{name}", anonymous=caller.anonymous)
    return repo


def sees(caller: Caller, repo: Repo) -> bool:
    """Whether it may know of the repo, which may be deleted by now: that it ever was is for those who read it then."""
    return caller.may(repo.account_id, "read") or (repo.visibility == "public" and repo.deleted_at is None)


def require(caller: Caller, repo: Repo, role: str) -> None:
    """Raises SignInFirst or NotAllowed."""
    require_in(caller, repo.account_id, repo.full_name, role)


def require_in(caller: Caller, account_id: int, what: str, role: str) -> None:
    """The same for a namespace."""
    if caller.may(account_id, role):
        return
    if caller.anonymous:
        raise SignInFirst(f"Sign in to change {what}.", remedy="hf auth login")
    if caller.role == "read":
        raise NotAllowed(f"This token may only read; changing {what} takes one with the role write.")
    raise NotAllowed(f"{caller.name} may not do this: it takes the role {role} in {what}.")


def require_files(session: Session, caller: Caller, repo: Repo) -> None:
    """Raises GatedRepo where the caller sees the repo but was not granted its files."""
    if repo.gated is None or caller.may(repo.account_id, "read"):
        return
    account = None if caller.confined else caller.account
    if account is not None and access_requests.status(session, repo, account.id) == "accepted":
        return
    raise GatedRepo(
        f"Access to {repo.full_name} is restricted. Ask for access, and sign in with an account that has it.",
        anonymous=caller.anonymous,
    )


def reader_ids(session: Session, caller: Caller) -> Collection[int]:
    """As `Caller.readers`, with every account spelled out."""
    readers = caller.readers
    return [account.id for account in accounts.every(session)] if readers is None else readers
