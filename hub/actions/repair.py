"""Put the bytes of damaged blobs again: from the upstream that they came from, or from other homes and backups.

Whatever brings them, a blob gets its name only after its digest was found to be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from hub.errors import HubError, UsageError
from hub.home import Home
from hub.settings import Settings
from hub.upstream import Upstream
from storage import damage, upstream
from storage.blobs import BlobStore, open_blobs
from storage.errors import StorageError


class Source(Protocol):
    """Opens the places where this source may have a blob, one after the other. They may raise on being read."""

    def places(self, sha256: str, size: int) -> Iterable[AbstractContextManager[Iterator[bytes]]]: ...


def repair(home: Home, sources: Iterable[Source]) -> tuple[str, ...]:
    """The blobs that were damaged, and are not any more."""
    with home.read() as session:
        damaged = damage.unhealed(session)
    listed = list(sources)
    return tuple(sha256 for sha256, size in sorted(damaged.items()) if _repair(home, sha256, size, listed))


def _repair(home: Home, sha256: str, size: int, sources: Iterable[Source]) -> bool:
    for source in sources:
        for place in source.places(sha256, size):
            with suppress(HubError, StorageError, OSError), place as pieces:
                home.blobs.put_stream(pieces, expected_sha256=sha256, expected_size=size)
                with home.write() as session:
                    damage.heal(session, [sha256])
                return True
    return False


class OtherBlobs:
    """Another home, a backup, a folder of blobs, or `s3://bucket/prefix`. Only read."""

    def __init__(self, place: str) -> None:
        """UsageError where there is no such folder."""
        self._blobs = _blobs_at(place)

    def places(self, sha256: str, size: int) -> Iterable[AbstractContextManager[Iterator[bytes]]]:
        yield self._open(sha256, size)

    @contextmanager
    def _open(self, sha256: str, size: int) -> Iterator[Iterator[bytes]]:
        yield self._blobs.iterate(sha256, size=size)


class FromUpstream:
    """The hub that `settings` name, for what was fetched from it. Close it at the end."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home, self._upstream = home, Upstream(settings)

    def close(self) -> None:
        self._upstream.close()

    def places(self, sha256: str, size: int) -> Iterable[AbstractContextManager[Iterator[bytes]]]:
        with self._home.read() as session:
            found = upstream.origins(session, sha256)
        for revision, file in found:
            if file.size == size and self._upstream.allows(revision.full_name):
                yield self._upstream.file(revision, file)


@contextmanager
def sources_of(home: Home, settings: Settings, places: Iterable[str]) -> Iterator[list[Source]]:
    """Folders first: they are near."""
    found: list[Source] = [OtherBlobs(place) for place in places]
    if not settings.upstream:
        yield found
        return
    with closing(FromUpstream(home, settings)) as hub:
        yield [*found, hub]


def _blobs_at(place: str) -> BlobStore:
    if "://" in place:
        return open_blobs(place)
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise UsageError(f"there is no folder '{place}'", remedy="give another home, a backup, or a folder of blobs")
    return open_blobs(folder / "blobs" if (folder / "blobs").is_dir() else folder)
