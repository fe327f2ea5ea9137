"""Move an alias, move it back, and read its history. The history is append-only; the database keeps it so."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from hub import access
from hub.access import Caller
from hub.address import Address
from hub.errors import UsageError
from hub.home import Home
from hub.locate import locate
from storage import alias_protection, aliases, repos, versions
from storage.aliases import AliasEvent
from storage.repos import Repo


@dataclass(frozen=True)
class Move:
    """One move of an alias; `label` is the version of the revision, or its commit id."""

    alias: str
    seq: int
    action: str
    label: str
    commit_id: str
    actor: str
    created_at: datetime

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def promote(home: Home, address: Address, alias: str, *, caller: Caller | None = None) -> Move:
    """Point `alias` at the revision that `address` names now; without a revision, at the head of main.

    Here and below, `caller` is who asks a server, and needs the role that guards the alias. None: without a server.
    """
    whole_repo(address)
    with home.write() as session:
        repo = _movable(session, address, alias, caller)
        pinned = locate(session, Address(repo.account, repo.name, "", address.revision))
        event = aliases.promote(session, repo, pinned.revision, alias, actor=_actor(home, caller))
        return _move(session, repo, event)


def rollback(home: Home, address: Address, alias: str, *, caller: Caller | None = None) -> Move:
    """Point `alias` back at what it named before its last promotion."""
    whole_repo(address)
    with home.write() as session:
        repo = _movable(session, address, alias, caller)
        return _move(session, repo, aliases.rollback(session, repo, alias, actor=_actor(home, caller)))


def protect(home: Home, address: Address, alias: str, role: str, *, caller: Caller | None = None) -> None:
    """On a server, only `role` ("write" or "admin") and above may move the alias from now on; saying so takes admin."""
    whole_repo(address)
    guard_role(role)
    with home.write() as session:
        repo = _repo(session, address, caller)
        if caller is not None:
            access.require(caller, repo, "admin")
        alias_protection.protect(session, repo, alias, role)


def history(home: Home, address: Address, alias: str = "", *, caller: Caller | None = None) -> list[Move]:
    """Every move of one alias (as argument or as the address's revision), or of all of the repo's, oldest first."""
    whole_repo(address)
    with home.read() as session:
        repo = _repo(session, address, caller)
        wanted = [alias or address.revision] if alias or address.revision else list(aliases.every(session, repo))
        return [_move(session, repo, event) for name in wanted for event in aliases.history(session, repo, name)]


def _repo(session: Session, address: Address, caller: Caller | None) -> Repo:
    if caller is None:
        return repos.find(session, address.namespace, address.repo)
    return access.visible_repo(session, caller, address.namespace, address.repo)


def _movable(session: Session, address: Address, alias: str, caller: Caller | None) -> Repo:
    repo = _repo(session, address, caller)
    if caller is not None:
        access.require(caller, repo, alias_protection.role_for(session, repo, alias))
    return repo


def _actor(home: Home, caller: Caller | None) -> str:
    return home.account if caller is None else caller.name


def _move(session: Session, repo: Repo, event: AliasEvent) -> Move:
    names = [v.name for v in versions.every(session, repo) if v.commit_id == event.commit_id]
    label = names[-1] if names else event.commit_id[:12]
    when = event.created_at.replace(microsecond=0)
    return Move(event.alias, event.seq, event.action, label, event.commit_id, event.actor, when)


def guard_role(role: str) -> None:
    """`UsageError` for a role that cannot guard an alias."""
    if role not in ("write", "admin"):
        raise UsageError(f"'{role}' cannot guard an alias", remedy="roles are write and admin")


def whole_repo(address: Address) -> None:
    """`UsageError` for the address of a folder."""
    if address.folder:
        raise UsageError(
            f"an alias names a revision of the whole repo, not of '{address.folder}'", remedy="leave the folder out"
        )
