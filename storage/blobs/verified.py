"""Reads that never pass wrong bytes off as right ones: what every store inherits, so that no reader can forget it.

A whole blob is digested as it is read, and its last piece is held back until the digest is known. A part of one, and a
path or address at which others read it, is given out once the whole was digested; the identity of the file that was
looked at (device, inode, size, times) is remembered, and a file with another identity is looked at again. A blob found
damaged is said to be so at once while its file stays the same; putting its bytes again replaces the file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from storage.blobs.contract import CHUNK
from storage.errors import DamagedBlob

OnDamage = Callable[[DamagedBlob], None]
"""Is told of every damage that is found. It raises nothing."""

REMEMBERED = 50_000
"""Files whose digests are remembered; the oldest are forgotten."""
TURNS = 64
"""Blobs that are digested before a read at the same time."""
MISSING = "its bytes are missing"


@dataclass(frozen=True)
class Identity:
    """Of the file or object that holds a blob now; another one after every replacement or change."""

    size: int
    marks: tuple[object, ...]


class VerifiedReads(ABC):
    """The reading half of `BlobStore`. A store says how bytes are found; `on_damage` hears of what is wrong."""

    def __init__(self, on_damage: OnDamage | None) -> None:
        self._on_damage = on_damage
        self._seen = _Seen()
        self._turns = [threading.Lock() for _ in range(TURNS)]

    @abstractmethod
    def _identity(self, sha256: str) -> Identity | None:
        """None: no such blob."""

    @abstractmethod
    def _pieces(self, sha256: str, start: int, end: int | None, chunk_size: int) -> Generator[bytes]:
        """The bytes [start, end) as they lie there. FileNotFoundError where there are none, at the first piece."""

    @abstractmethod
    def _place(self, sha256: str) -> Path | None: ...

    @abstractmethod
    def _address(self, sha256: str, seconds: int) -> str | None: ...

    def iterate(
        self, sha256: str, *, start: int = 0, end: int | None = None, chunk_size: int = CHUNK, size: int | None = None
    ) -> Generator[bytes]:
        identity = self._require(sha256, size)
        if start > 0 or (end is not None and end < identity.size):
            self._digest_once(sha256)
            return self._pieces(sha256, start, end, chunk_size)
        pieces = self._digested(sha256, identity, chunk_size)
        next(pieces)  # a small blob, and one whose file cannot be opened, is refused before anything is read from here
        return pieces

    def read(self, sha256: str) -> bytes:
        return b"".join(self.iterate(sha256))

    def size(self, sha256: str) -> int | None:
        identity = self._identity(sha256)
        return None if identity is None else identity.size

    def local_path(self, sha256: str) -> Path | None:
        place = self._place(sha256)
        if place is not None:
            self._digest_once(sha256)
        return place

    def download_url(self, sha256: str, *, seconds: int) -> str | None:
        address = self._address(sha256, seconds)
        if address is not None:
            self._digest_once(sha256)
        return address

    def has(self, sha256: str, size: int) -> bool:
        try:
            self.expect(sha256, size)
        except DamagedBlob:
            return False
        return True

    def expect(self, sha256: str, size: int) -> None:
        self._require(sha256, size)

    def verify(self, sha256: str, *, size: int | None = None, each: Callable[[int], None] | None = None) -> None:
        with closing(self._digested(sha256, self._there(sha256, size), CHUNK)) as pieces:
            for piece in pieces:
                if each is not None:
                    each(len(piece))

    def is_copy(self, path: Path, sha256: str) -> bool:
        """Whether the file at `path`, a copy outside the store, has these bytes; digested once per identity."""
        try:
            identity = file_identity(path.stat())
            if self._seen.verdict(str(path), identity) == "":
                return True
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return False
        if found == sha256:
            self._seen.note(str(path), identity, "")
        return found == sha256

    def _trust(self, sha256: str) -> None:
        """The bytes were put just now, and digested on the way."""
        identity = self._identity(sha256)
        if identity is not None:
            self._seen.note(sha256, identity, "")

    def _require(self, sha256: str, size: int | None) -> Identity:
        """The identity of a file that is not known to be damaged."""
        identity = self._there(sha256, size)
        if wrong := self._seen.verdict(sha256, identity):
            raise self._damaged(sha256, identity, wrong)
        return identity

    def _there(self, sha256: str, size: int | None) -> Identity:
        """The identity of a file of this size."""
        identity = self._identity(sha256)
        if identity is None:
            raise self._damaged(sha256, None, MISSING)
        if size is not None and identity.size != size:
            raise self._damaged(sha256, identity, f"{identity.size} bytes are stored, it has {size}")
        return identity

    def _digest_once(self, sha256: str) -> None:
        identity = self._require(sha256, None)
        if self._seen.verdict(sha256, identity) == "":
            return
        with self._turns[int(sha256[:8], 16) % TURNS]:  # many ask for parts of one blob at once
            identity = self._require(sha256, None)
            if self._seen.verdict(sha256, identity) is None:
                for _ in self._digested(sha256, identity, CHUNK):
                    pass

    def _digested(self, sha256: str, identity: Identity, chunk_size: int) -> Generator[bytes]:
        """First an empty piece, when the file is open and not shown to be wrong at once; the last piece at the end."""
        digest, held, opened = hashlib.sha256(), b"", False
        try:
            with closing(self._pieces(sha256, 0, None, chunk_size)) as pieces:
                for piece in pieces:
                    digest.update(piece)
                    if held:
                        if not opened:
                            yield b""
                            opened = True
                        yield held
                    held = piece
        except FileNotFoundError:
            raise self._damaged(sha256, None, MISSING) from None
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise self._damaged(sha256, identity, "the disk cannot read it") from error
        if (found := digest.hexdigest()) != sha256:
            wrong = f"its bytes have the sha256 {found}"
            self._seen.note(sha256, identity, wrong)
            raise self._damaged(sha256, identity, wrong)
        if self._identity(sha256) == identity:  # else it was replaced meanwhile
            self._seen.note(sha256, identity, "")
        if not opened:
            yield b""
        if held:
            yield held

    def _damaged(self, sha256: str, identity: Identity | None, reason: str) -> DamagedBlob:
        """The error to raise. Nobody is told where the file was replaced while we looked: it is sound by now."""
        error = DamagedBlob(sha256, reason)
        if self._on_damage is not None and self._identity(sha256) == identity:
            self._on_damage(error)
        return error


class _Seen:
    """Key -> the identity that was digested, and what was wrong with it ("": nothing). Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._verdicts: OrderedDict[str, tuple[Identity, str]] = OrderedDict()

    def verdict(self, key: str, identity: Identity) -> str | None:
        """None: this file was not looked at."""
        with self._lock:
            seen = self._verdicts.get(key)
            if seen is None or seen[0] != identity:
                return None
            self._verdicts.move_to_end(key)
            return seen[1]

    def note(self, key: str, identity: Identity, wrong: str) -> None:
        with self._lock:
            self._verdicts[key] = (identity, wrong)
            self._verdicts.move_to_end(key)
            if len(self._verdicts) > REMEMBERED:
                self._verdicts.popitem(last=False)


def file_identity(status: os.stat_result) -> Identity:
    return Identity(status.st_size, (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns))
