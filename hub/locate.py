"""From an address to one exact thing: the repo, the revision it names now, and the folder with the adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from hub.address import Address
from hub.checkout import check_out
from hub.home import Home
from storage import repos, revisions
from storage.errors import NotFound
from storage.repos import Repo
from storage.revisions import File, Revision

ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Pinned:
    """An address with its revision fixed: whatever moves afterwards, this names the same bytes."""

    address: Address
    repo: Repo
    revision: Revision
    files: tuple[File, ...]
    """All files of the revision."""

    @property
    def folder(self) -> str:
        return self.address.folder

    @property
    def own_files(self) -> tuple[File, ...]:
        """The files in the addressed folder and below."""
        return tuple(f for f in self.files if not self.folder or f.path.startswith(f"{self.folder}/"))

    def file(self, name: str) -> File | None:
        """The file `name` right in the addressed folder."""
        path = f"{self.folder}/{name}" if self.folder else name
        return next((file for file in self.files if file.path == path), None)

    def directory(self, home: Home) -> Path:
        """The addressed folder on this machine's disk, to read from."""
        return check_out(home, self.revision.commit_id, self.own_files, folder=self.folder)


def locate(session: Session, address: Address) -> Pinned:
    """What `address` names now. `NotFound` says which part of it does not exist, and what there is instead."""
    repo = repos.find(session, address.namespace, address.repo)
    revision = revisions.resolve(session, repo, address.revision or revisions.MAIN)
    pinned = Pinned(address, repo, revision, tuple(revisions.files_of(session, revision)))
    if address.folder and not pinned.own_files:
        raise NotFound(f"{address.repo_id} has no folder '{address.folder}'", remedy=f"mixhub show {address.repo_id}")
    return pinned


def locate_adapter(session: Session, address: Address) -> Pinned:
    """As `locate`, for a folder that must hold an adapter; names the folders that do, where it does not."""
    pinned = locate(session, address)
    if pinned.file(ADAPTER_CONFIG) is None:
        folders = adapter_folders(pinned.own_files)
        where = f"; its adapters are in: {', '.join(folders)}" if folders else ""
        remedy = f"for example {address.repo_id}/{folders[0]}" if folders else f"mixhub show {address.repo_id}"
        raise NotFound(f"{address} holds no adapter ({ADAPTER_CONFIG}){where}", remedy=remedy)
    return pinned


def locate_pinned(session: Session, address: Address) -> Pinned:
    """As `locate_adapter`, for an address with a full commit id that was written down earlier, in a recipe or a search:
    its repo may have been renamed or deleted since."""
    try:
        return locate_adapter(session, address)
    except NotFound:
        revision = revisions.of_commit(session, address.revision)
        if revision is None:
            raise
        repo = repos.by_id(session, revision.repo_id)
        return Pinned(address, repo, revision, tuple(revisions.files_of(session, revision)))


def adapter_folders(files: tuple[File, ...]) -> list[str]:
    """The folders that hold an adapter_config.json; the empty string is the root."""
    paths = (Path(file.path) for file in files)
    return sorted({"" if p.parent == Path() else p.parent.as_posix() for p in paths if p.name == ADAPTER_CONFIG})
