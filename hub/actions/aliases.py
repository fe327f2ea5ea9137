"""Move an alias, move it back, and read its history. The history is append-only; the database keeps it so."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy.orm import Session

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


def promote(home: Home, address: Address, alias: str) -> Move:
    """Point `alias` at the revision that `address` names now; without a revision, at the head of main."""
    _whole_repo(address)
    with home.write() as session:
        pinned = locate(session, address)
        event = aliases.promote(session, pinned.repo, pinned.revision, alias, actor=home.account)
        return _move(session, pinned.repo, event)


def rollback(home: Home, address: Address, alias: str) -> Move:
    """Point `alias` back at what it named before its last promotion."""
    _whole_repo(address)
    with home.write() as session:
        repo = repos.find(session, address.namespace, address.repo)
        return _move(session, repo, aliases.rollback(session, repo, alias, actor=home.account))


def protect(home: Home, address: Address, alias: str, role: str) -> None:
    """On a server, only `role` ("write" or "admin") and above may move the alias from now on."""
    _whole_repo(address)
    if role not in ("write", "admin"):
        raise UsageError(f"'{role}' cannot guard an alias", remedy="roles are write and admin")
    with home.write() as session:
        alias_protection.protect(session, repos.find(session, address.namespace, address.repo), alias, role)


def history(home: Home, address: Address, alias: str = "") -> list[Move]:
    """Every move of one alias (as argument or as the address's revision), or of all of the repo's, oldest first."""
    _whole_repo(address)
    with home.read() as session:
        repo = repos.find(session, address.namespace, address.repo)
        wanted = [alias or address.revision] if alias or address.revision else list(aliases.every(session, repo))
        return [_move(session, repo, event) for name in wanted for event in aliases.history(session, repo, name)]


def _move(session: Session, repo: Repo, event: AliasEvent) -> Move:
    names = [v.name for v in versions.every(session, repo) if v.commit_id == event.commit_id]
    label = names[-1] if names else event.commit_id[:12]
    return Move(event.alias, event.seq, event.action, label, event.commit_id, event.actor, event.created_at)


def _whole_repo(address: Address) -> None:
    if address.folder:
        raise UsageError(
            f"an alias names a revision of the whole repo, not of '{address.folder}'", remedy="leave the folder out"
        )
