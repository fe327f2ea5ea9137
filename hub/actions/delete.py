"""Delete a version, or hide a repo. What an alias or a mix pins stays: versions are refused, repos keep their bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session

from hub import access
from hub.access import Caller
from hub.address import Address
from hub.errors import UsageError
from hub.home import Home
from storage import aliases, names, repos, versions
from storage.errors import PinnedRevision
from storage.repos import Repo


@dataclass(frozen=True)
class Deleted:
    address: str
    sentence: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def delete(home: Home, address: Address, *, force: bool = False, caller: Caller | None = None) -> Deleted:
    """Delete `ns/name@v3` or `ns/name`. The version's name will never be given to other content.

    `caller` is who asks a server: a version takes the role write, a repo the role admin. None: without a server.

    `PinnedRevision` for a version that an alias or a mix needs, and, unless `force` is given, for a repo with aliases:
    whoever uses `ns/name@prod` would find nothing. What mixes need of a deleted repo stays.
    """
    number = version_to_delete(address)
    with home.write() as session:
        repo = _repo(session, address, caller, role="admin" if number is None else "write")
        actor = home.account if caller is None else caller.name
        if number is None:
            named = tuple(f"{address}@{alias}" for alias in aliases.every(session, repo))
            if named and not force:
                users = ", ".join(named)
                raise PinnedRevision(f"{address} is in use as {users}", pins=named, remedy="--force deletes it anyway")
            repos.delete(session, repo, actor=actor)
            sentence = f"deleted {address}; mixes that it is part of keep what they need of it"
        else:
            versions.delete(session, repo, number, actor=actor)
            sentence = f"deleted {address}; the commit is still there, and {address.revision} is never reused"
    return Deleted(str(address), sentence)


def version_to_delete(address: Address) -> int | None:
    """None: the whole repo. `UsageError` for what cannot be deleted by itself."""
    if address.folder:
        raise UsageError(
            f"'{address}' is a folder; only versions and whole repos can be deleted",
            remedy=f"mixhub delete {address.repo_id}@v<number>, or mixhub delete {address.repo_id}",
        )
    number = names.version_number(address.revision) if address.revision else None
    if address.revision and number is None:
        raise UsageError(f"'{address.revision}' is not a version; only versions and whole repos can be deleted")
    return number


def _repo(session: Session, address: Address, caller: Caller | None, *, role: str) -> Repo:
    if caller is None:
        return repos.find(session, address.namespace, address.repo)
    repo = access.visible_repo(session, caller, address.namespace, address.repo, follow=False)
    access.require(caller, repo, role)
    return repo
