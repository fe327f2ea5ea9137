"""What every blob store can do. Implementations are safe to use from many threads and processes at once."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK = 1 << 20
"""Bytes per piece when streaming."""


@dataclass(frozen=True)
class StoredBlob:
    """Bytes that are stored now. `git_sha1` is the git blob id of the same bytes."""

    sha256: str
    size: int
    git_sha1: str


@dataclass(frozen=True)
class BlobInfo:
    """One entry of a listing. `modified` is when somebody last put these bytes, also if they were there already."""

    sha256: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Leftover:
    """An unfinished write of a process that died."""

    name: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Sweep:
    """What a sweep removed, and how many bytes that freed."""

    blobs: tuple[str, ...]
    leftovers: tuple[str, ...]
    freed: int


class BlobStore(Protocol):
    """`expected_*` that do not hold raise CorruptBlob and store nothing. What is put replaces what is there.

    Reads raise DamagedBlob where the bytes are missing or not those of the digest; nobody gets wrong ones whole.
    """

    def put_file(
        self, path: Path, *, expected_sha256: str | None = None, expected_size: int | None = None
    ) -> StoredBlob: ...

    def put_stream(
        self,
        chunks: Iterable[bytes] | BinaryIO,
        *,
        expected_sha256: str | None = None,
        expected_size: int | None = None,
    ) -> StoredBlob: ...

    def iterate(
        self, sha256: str, *, start: int = 0, end: int | None = None, chunk_size: int = CHUNK, size: int | None = None
    ) -> Iterator[bytes]:
        """The bytes [start, end), in pieces of `chunk_size` or less. Of a damaged blob the last piece never comes.

        A blob that is missing, has another size than `size`, or is known to be damaged raises before the first piece.
        """
        ...

    def read(self, sha256: str) -> bytes:
        """The whole blob in memory: for small files only."""
        ...

    def size(self, sha256: str) -> int | None:
        """Bytes that are there, right or wrong. None: no such blob."""
        ...

    def has(self, sha256: str, size: int) -> bool:
        """Whether `expect` raises nothing."""
        ...

    def expect(self, sha256: str, size: int) -> None:
        """Raises unless a blob of this size is there that is not known to be damaged. Its bytes are not read."""
        ...

    def verify(self, sha256: str, *, size: int | None = None, each: Callable[[int], None] | None = None) -> None:
        """Read and digest the whole blob now. `each` is told the length of every piece, and may raise to stop."""
        ...

    def is_copy(self, path: Path, sha256: str) -> bool:
        """Whether the file at `path`, which lies outside the store, has the blob's bytes."""
        ...

    def local_path(self, sha256: str) -> Path | None:
        """A path to read (never to write) the blob at, where blobs lie on this machine's disk. None: elsewhere."""
        ...

    def download_url(self, sha256: str, *, seconds: int) -> str | None:
        """A signed address where anybody may read the blob for that long, where the store has such addresses."""
        ...

    def delete(self, sha256: str, *, unless_modified_since: datetime | None = None) -> bool:
        """True if it was there and is gone. Young blobs are spared when a time is given."""
        ...

    def blobs(self) -> Iterator[BlobInfo]: ...

    def leftovers(self) -> Iterator[Leftover]: ...

    def delete_leftover(self, name: str) -> None: ...


@contextmanager
def unasked(_sha256: str) -> Iterator[bool]:
    """For a store that nobody records."""
    yield True


def sweep(
    store: BlobStore,
    *,
    keep: Container[str],
    now: datetime,
    older_than: timedelta,
    unneeded: Callable[[str], AbstractContextManager[bool]] = unasked,
) -> Sweep:
    """Remove what nobody needs: blobs outside `keep` and unfinished writes, if untouched for `older_than`.

    The age protects uploads whose rows are not written yet: an upload touches its blob even when it was there before.
    `unneeded` is asked again before a blob goes; what it answers must hold until its block ends.
    """
    limit = now - older_than
    blobs: list[str] = []
    leftovers: list[str] = []
    freed = 0
    for blob in store.blobs():
        if blob.sha256 in keep or blob.modified >= limit:
            continue
        with unneeded(blob.sha256) as still:
            if still and store.delete(blob.sha256, unless_modified_since=limit):
                blobs.append(blob.sha256)
                freed += blob.size
    for leftover in store.leftovers():
        if leftover.modified < limit:
            store.delete_leftover(leftover.name)
            leftovers.append(leftover.name)
            freed += leftover.size
    return Sweep(tuple(blobs), tuple(leftovers), freed)
