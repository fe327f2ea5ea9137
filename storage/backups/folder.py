"""The folder of a backup: who writes it, and how one snapshot takes the place of another, all at once.

Databases are copied to `NAME.new`. When all is there and checked, the manifest is renamed to `backup.json.new`: from
then on the new snapshot holds, and whatever of its renames a kill left undone is done by the next writer (`settle`); a
reader finds the files under either name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.backups.manifest import Manifest, StoredDatabase, read_manifest
from storage.blobs import LocalBlobs
from storage.errors import BadBackup, Conflict

MANIFEST, LOCK, BLOBS, NEW = "backup.json", "backup.lock", "blobs", ".new"


class BackupFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = LocalBlobs(path / BLOBS)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """For one writer at a time. Makes the folder. Raises BadBackup for a folder of something else."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = {path.name for path in self.path.iterdir()}
        if names and not names & {MANIFEST, MANIFEST + NEW, LOCK}:
            raise BadBackup(f"{self.path} holds files that are no backup.", remedy="Give an empty or a new folder.")
        with (self.path / LOCK).open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    f"Another backup into {self.path} is running.", remedy="Wait until it is done."
                ) from None
            (self.path / BLOBS).mkdir(mode=0o700, exist_ok=True)
            self.settle()
            yield  # closing releases the lock

    def settle(self) -> None:
        """Do the renames that a kill left undone, and remove copies that never became part of a snapshot."""
        pending = self.path / (MANIFEST + NEW)
        if pending.exists():
            self._rename_all(_read(pending))
        for path in self.path.glob(f"*{NEW}*"):
            path.unlink()
        for leftover in self.blobs.leftovers():
            self.blobs.delete_leftover(leftover.name)

    def incoming(self, name: str) -> Path:
        """Where the copy of a database is to be written: a new, empty file that only its owner reads."""
        path = self.path / (name + NEW)
        path.unlink(missing_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        return path

    def finish(self, manifest: Manifest) -> None:
        """Let the databases that were written to `incoming` become the backup. They are on disk after that."""
        for database in manifest.databases:
            _sync(self.path / (database.name + NEW))
        half = self.path / (MANIFEST + NEW + ".half")
        half.touch(mode=0o600)
        half.write_text(manifest.as_text(), encoding="utf-8")
        _sync(half)
        _sync(self.path / BLOBS)
        _sync(self.path)
        half.rename(self.path / (MANIFEST + NEW))
        _sync(self.path)
        self._rename_all(manifest)

    def prune(self, manifest: Manifest) -> int:
        """Remove the blobs that the snapshot does not name; returns how many."""
        return sum(self.blobs.delete(blob.sha256) for blob in self.blobs.blobs() if blob.sha256 not in manifest.blobs)

    def read(self) -> Manifest:
        """Raises BadBackup where there is no finished backup."""
        for name in (MANIFEST + NEW, MANIFEST):
            if (self.path / name).is_file():
                return _read(self.path / name)
        raise BadBackup(f"{self.path} holds no finished backup.", remedy="mixhub backup DIR makes or finishes one.")

    def database(self, entry: StoredDatabase) -> Path:
        """The file of a database, whose bytes are the right ones. Raises BadBackup."""
        for path in (self.path / (entry.name + NEW), self.path / entry.name):
            if path.is_file() and path.stat().st_size == entry.size and digest(path) == entry.sha256:
                return path
        raise BadBackup(
            f"{self.path / entry.name} is not the file that was backed up: it is missing or was changed.",
            remedy="Use another backup, or make it again.",
        )

    def _rename_all(self, manifest: Manifest) -> None:
        for database in manifest.databases:
            if (self.path / (database.name + NEW)).exists():
                (self.path / (database.name + NEW)).rename(self.path / database.name)
        _sync(self.path)
        (self.path / (MANIFEST + NEW)).rename(self.path / MANIFEST)
        _sync(self.path)


def entry_of(path: Path) -> StoredDatabase:
    """What the manifest says of a database that was written to `incoming`."""
    return StoredDatabase(path.name.removesuffix(NEW), path.stat().st_size, digest(path))


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Manifest:
    return read_manifest(path.read_text(encoding="utf-8", errors="replace"), where=str(path))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
