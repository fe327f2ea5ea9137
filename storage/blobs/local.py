"""Blobs in a folder: `<root>/ab/<sha256>`, written as `<root>/incoming/<random>` first.

A blob gets its final name by a rename after its bytes were synced, and the folder is synced after the rename: neither a
kill nor a power cut leaves half a blob under a final name. The rename replaces what is there, so that putting the right
bytes repairs wrong ones; whoever reads the old file reads it to its end. Deleting and renaming exclude each other
through a lock file, so that an upload of bytes that exist already cannot lose them to a sweep.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from storage.blobs.contract import BlobInfo, Leftover, StoredBlob
from storage.blobs.hashing import check_sha256, copy_and_digest
from storage.blobs.verified import Identity, OnDamage, VerifiedReads, file_identity
from storage.cannot_store import told


class LocalBlobs(VerifiedReads):
    """Fulfils `BlobStore`. Holds no open files between calls."""

    def __init__(self, root: Path, on_damage: OnDamage | None = None) -> None:
        super().__init__(on_damage)
        self.root = root

    def __repr__(self) -> str:
        return f"LocalBlobs({str(self.root)!r})"

    def put_file(
        self, path: Path, *, expected_sha256: str | None = None, expected_size: int | None = None
    ) -> StoredBlob:
        with path.open("rb") as file:
            return self.put_stream(
                file,
                expected_sha256=expected_sha256,
                expected_size=os.fstat(file.fileno()).st_size if expected_size is None else expected_size,
            )

    @told
    def put_stream(
        self,
        chunks: Iterable[bytes] | BinaryIO,
        *,
        expected_sha256: str | None = None,
        expected_size: int | None = None,
    ) -> StoredBlob:
        incoming = _make_folder(self.root, "incoming") / secrets.token_hex(16)
        try:
            with incoming.open("x+b") as file:
                stored = copy_and_digest(chunks, file, expected_sha256=expected_sha256, expected_size=expected_size)
                file.flush()
                os.fsync(file.fileno())
            self._settle(incoming, stored)
            self._trust(stored.sha256)
        finally:
            incoming.unlink(missing_ok=True)
        return stored

    def delete(self, sha256: str, *, unless_modified_since: datetime | None = None) -> bool:
        path = self._path(sha256)
        with self._locked(fcntl.LOCK_EX):
            try:
                if unless_modified_since is not None and _modified(path.stat()) >= unless_modified_since:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
        return True

    def blobs(self) -> Iterator[BlobInfo]:
        for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
            with suppress(FileNotFoundError):  # deleted while we look
                status = path.stat()
                yield BlobInfo(path.name, status.st_size, _modified(status))

    def leftovers(self) -> Iterator[Leftover]:
        for path in self.root.glob("incoming/*"):
            with suppress(FileNotFoundError):  # finished while we look
                status = path.stat()
                yield Leftover(path.name, status.st_size, _modified(status))

    def delete_leftover(self, name: str) -> None:
        (self.root / "incoming" / Path(name).name).unlink(missing_ok=True)

    def _path(self, sha256: str) -> Path:
        return self.root / check_sha256(sha256)[:2] / sha256

    def _identity(self, sha256: str) -> Identity | None:
        try:
            return file_identity(self._path(sha256).stat())
        except FileNotFoundError:
            return None

    def _pieces(self, sha256: str, start: int, end: int | None, chunk_size: int) -> Generator[bytes]:
        with self._path(sha256).open("rb") as file:
            file.seek(start)
            left = None if end is None else max(end - start, 0)
            while left is None or left > 0:
                piece = file.read(chunk_size if left is None else min(chunk_size, left))
                if not piece:
                    return
                left = None if left is None else left - len(piece)
                yield piece

    def _place(self, sha256: str) -> Path | None:
        return self._path(sha256)

    def _address(self, sha256: str, seconds: int) -> str | None:
        del sha256, seconds
        return None

    def _settle(self, incoming: Path, stored: StoredBlob) -> None:
        """Give a complete file its final name, in the place of whatever is there."""
        folder = _make_folder(self.root, stored.sha256[:2])
        with self._locked(fcntl.LOCK_SH):
            incoming.replace(folder / stored.sha256)
            _sync_folder(folder)

    @contextmanager
    def _locked(self, mode: int) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("ab") as file:
            fcntl.flock(file, mode)
            yield  # closing releases the lock


def _make_folder(root: Path, name: str) -> Path:
    folder = root / name
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(root)
    return folder


def _sync_folder(folder: Path) -> None:
    """A rename or a new folder lasts only once its parent folder is on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _modified(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, UTC)
