"""Bytes that a disk or a bucket has changed: found by every way to read them, on both stores, and healed by a put."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest

from storage.blobs import BlobStore, LocalBlobs, S3Blobs, sweep
from storage.errors import DamagedBlob

LARGE = os.urandom(3 * (1 << 20) + 17)


def overwrite(store: BlobStore, sha256: str, content: bytes) -> None:
    """Put other bytes in the place of a blob, behind the store's back; on a disk even with the old time."""
    if isinstance(store, S3Blobs):
        obstore.put(store._store, f"{sha256[:2]}/{sha256}", content)
        return
    assert isinstance(store, LocalBlobs)
    path = store.root / sha256[:2] / sha256
    before = path.stat()
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


class TestFlippedBit:
    @pytest.mark.parametrize("at", [0, 1 << 20, len(LARGE) - 1], ids=["first", "middle", "last"])
    def test_a_whole_read_ends_before_the_last_byte(self, store: BlobStore, at: int) -> None:
        sha256 = store.put_stream([LARGE]).sha256
        overwrite(store, sha256, flipped(LARGE, at))
        got = b""
        with pytest.raises(DamagedBlob, match=sha256):
            for piece in store.iterate(sha256):
                got += piece
        assert 0 < len(got) < len(LARGE)
        with pytest.raises(DamagedBlob):  # it is known by now: not a byte goes out any more
            store.iterate(sha256)

    def test_a_small_blob_is_refused_before_the_first_piece(self, store: BlobStore) -> None:
        sha256 = store.put_stream([b"content"]).sha256
        overwrite(store, sha256, b"Content")
        with pytest.raises(DamagedBlob, match="its bytes have the sha256") as caught:
            store.iterate(sha256)
        assert caught.value.sha256 == sha256 and "mixhub db check --deep --repair" in caught.value.remedy

    def test_a_part_is_refused_wherever_the_bit_is(self, store: BlobStore) -> None:
        sha256 = store.put_stream([LARGE]).sha256
        overwrite(store, sha256, flipped(LARGE, len(LARGE) - 1))
        for start, end in ((0, 10), (5, None), (1 << 20, 2 << 20)):
            with pytest.raises(DamagedBlob):
                store.iterate(sha256, start=start, end=end)

    def test_no_path_and_no_address_of_it_is_given_out(self, store: BlobStore) -> None:
        sha256 = store.put_stream([LARGE]).sha256
        assert (store.local_path(sha256) is None) != (store.download_url(sha256, seconds=60) is None)
        overwrite(store, sha256, flipped(LARGE, 5))
        with pytest.raises(DamagedBlob):
            store.local_path(sha256) or store.download_url(sha256, seconds=60)

    def test_putting_the_right_bytes_heals_it(self, store: BlobStore) -> None:
        stored = store.put_stream([LARGE])
        overwrite(store, stored.sha256, flipped(LARGE, 5))
        assert store.put_stream([LARGE]) == stored
        assert store.read(stored.sha256) == LARGE
        assert b"".join(store.iterate(stored.sha256, start=3, end=8)) == LARGE[3:8]

    def test_a_deep_look_finds_it_whatever_is_remembered(
        self, store: BlobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that rots changes no time and no inode."""
        sha256 = store.put_stream([LARGE]).sha256
        identity = store._identity(sha256)  # type: ignore[attr-defined]
        overwrite(store, sha256, flipped(LARGE, 5))
        monkeypatch.setattr(store, "_identity", lambda _: identity)
        assert store.local_path(sha256) or store.download_url(sha256, seconds=60)  # as far as is known
        lengths: list[int] = []
        with pytest.raises(DamagedBlob):
            store.verify(sha256, size=len(LARGE), each=lengths.append)
        assert 0 < sum(lengths) < len(LARGE)
        with pytest.raises(DamagedBlob):
            store.iterate(sha256, start=1)


class TestShortOrMissing:
    def test_a_short_or_missing_blob_is_refused_before_the_first_piece(self, store: BlobStore) -> None:
        stored = store.put_stream([LARGE])
        assert store.has(stored.sha256, stored.size)
        overwrite(store, stored.sha256, LARGE[:-1])
        for look in (
            lambda: store.iterate(stored.sha256, size=stored.size),
            lambda: store.expect(stored.sha256, stored.size),
            lambda: store.verify(stored.sha256, size=stored.size),
        ):
            with pytest.raises(DamagedBlob, match=f"{stored.size - 1} bytes are stored, it has {stored.size}"):
                look()
        assert not store.has(stored.sha256, stored.size)
        store.delete(stored.sha256)
        assert not store.has(stored.sha256, stored.size)
        with pytest.raises(DamagedBlob, match="missing"):
            store.iterate(stored.sha256, start=1)

    def test_what_the_disk_cannot_read_is_damage_and_other_failures_are_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[DamagedBlob] = []
        store = LocalBlobs(tmp_path, told.append)
        sha256 = store.put_stream([LARGE]).sha256

        def failing(number: int) -> Callable[..., Generator[bytes]]:
            def pieces(*_: object) -> Generator[bytes]:
                yield LARGE[:10]
                raise OSError(number, os.strerror(number))

            return pieces

        monkeypatch.setattr(store, "_pieces", failing(errno.EMFILE))
        with pytest.raises(OSError, match="Too many open files"):
            store.read(sha256)
        assert told == []
        monkeypatch.setattr(store, "_pieces", failing(errno.EIO))
        with pytest.raises(DamagedBlob, match="the disk cannot read it"):
            store.read(sha256)
        assert [error.sha256 for error in told] == [sha256]


def test_a_blob_is_digested_once_while_it_is_the_same_file(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = store.put_stream([LARGE]).sha256
    read: list[tuple[int, int | None]] = []
    pieces = store._pieces  # type: ignore[attr-defined]

    def counted(digest: str, start: int, end: int | None, size: int) -> Generator[bytes]:
        read.append((start, end))
        yield from pieces(digest, start, end, size)

    monkeypatch.setattr(store, "_pieces", counted)

    def part() -> bytes:
        return b"".join(store.iterate(sha256, start=7, end=9))

    assert part() == LARGE[7:9] and read == [(7, 9)]  # it was digested when it was put
    identity = store._identity  # type: ignore[attr-defined]
    monkeypatch.setattr(store, "_identity", lambda digest: replace(identity(digest), marks=("another",)))
    threads = [threading.Thread(target=part) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read.count((0, None)) == 1 and read.count((7, 9)) == 5
    assert store.read(sha256) == LARGE
    assert part() == LARGE[7:9] and read.count((0, None)) == 2  # a whole read is digested every time


def test_a_copy_outside_the_store_is_told_from_a_changed_one(store: BlobStore, tmp_path: Path) -> None:
    sha256, copy = store.put_stream([LARGE]).sha256, tmp_path / "copy"
    assert not store.is_copy(copy, sha256)
    copy.write_bytes(LARGE)
    assert store.is_copy(copy, sha256) and store.is_copy(copy, sha256)
    copy.write_bytes(flipped(LARGE, 5))
    assert not store.is_copy(copy, sha256)


def test_damage_is_told_but_not_of_a_file_that_was_replaced_while_it_was_read(tmp_path: Path) -> None:
    told: list[DamagedBlob] = []
    store = LocalBlobs(tmp_path, told.append)
    sha256 = store.put_stream([LARGE]).sha256
    overwrite(store, sha256, flipped(LARGE, 5))
    reading = store.iterate(sha256)
    assert next(reading)
    store.put_stream([LARGE])
    with pytest.raises(DamagedBlob):
        list(reading)
    assert told == [] and store.read(sha256) == LARGE
    overwrite(store, sha256, flipped(LARGE, 5))
    with pytest.raises(DamagedBlob):
        list(store.iterate(sha256))
    assert [error.sha256 for error in told] == [sha256]


def test_readers_healing_uploads_and_a_sweep_at_once_lose_nothing_and_read_nothing_wrong(tmp_path: Path) -> None:
    store = LocalBlobs(tmp_path)
    sha256 = store.put_stream([LARGE]).sha256
    stop, wrong, right = threading.Event(), [], threading.Semaphore(0)

    def read_on() -> None:
        while not stop.is_set():
            with suppress(DamagedBlob):
                content = store.read(sha256)
                wrong.extend([len(content)] if content != LARGE else [])
                part = b"".join(store.iterate(sha256, start=1 << 20, end=(1 << 20) + 9))
                wrong.extend([-1] if part != LARGE[1 << 20 : (1 << 20) + 9] else [])
                right.release()

    def sweep_on() -> None:
        while not stop.is_set():
            sweep(store, keep=(), now=datetime.now(UTC), older_than=timedelta(seconds=30))

    threads = [threading.Thread(target=work) for work in (read_on, read_on, sweep_on)]
    for thread in threads:
        thread.start()
    try:
        for attempt in range(12):
            path = store.root / sha256[:2] / sha256
            if attempt % 2:
                damaged = tmp_path / "damaged"
                damaged.write_bytes(flipped(LARGE, attempt << 17))
                damaged.replace(path)
            os.utime(path, (0, 0))  # old: the sweep may take it until somebody puts it again
            store.put_stream([LARGE])
            assert store.has(sha256, len(LARGE))
        assert right.acquire(timeout=30)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert store.read(sha256) == LARGE
