"""What every blob store promises; the stores are the parameter of `store`."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.blobs import BlobStore, open_blobs, pointer_sha1, pointer_text, sweep
from storage.errors import CorruptBlob, DamagedBlob, InvalidName, StorageError

LARGE = os.urandom(3 * (1 << 20) + 17)


class TestBlobStore:
    @pytest.mark.parametrize("content", [b"", b"small", LARGE], ids=["empty", "small", "large"])
    def test_what_was_put_comes_back_whole(self, store: BlobStore, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(content)
        stored = store.put_file(path)
        assert stored.sha256 == hashlib.sha256(content).hexdigest()
        assert store.read(stored.sha256) == content
        assert store.size(stored.sha256) == stored.size == len(content)

    def test_chunks_an_open_file_and_a_path_give_the_same_blob(self, store: BlobStore, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(LARGE)
        chunks = (LARGE[start : start + 70_000] for start in range(0, len(LARGE), 70_000))
        assert store.put_stream(chunks) == store.put_stream(io.BytesIO(LARGE)) == store.put_file(path)
        assert [blob.sha256 for blob in store.blobs()] == [hashlib.sha256(LARGE).hexdigest()]

    def test_the_git_sha1_is_the_one_that_git_gives(self, store: BlobStore) -> None:
        content = b"line\n" * 1000
        by_git = subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True)
        unknown_size = store.put_stream([content])
        known_size = store.put_stream([content], expected_size=len(content))
        assert unknown_size.git_sha1 == known_size.git_sha1 == by_git.stdout.decode().strip()

    @pytest.mark.parametrize(
        ("start", "end"), [(0, None), (0, 10), (5, 6), (100, None), (0, 10**9), (7, 7), (10**9, None)]
    )
    def test_a_range_is_a_slice(self, store: BlobStore, start: int, end: int | None) -> None:
        content = bytes(range(256)) * 10
        stored = store.put_stream([content])
        pieces = list(store.iterate(stored.sha256, start=start, end=end, chunk_size=100))
        assert b"".join(pieces) == content[start:end]
        assert all(0 < len(piece) <= 100 for piece in pieces)

    def test_bytes_that_are_not_the_expected_ones_are_refused_and_nothing_is_stored(self, store: BlobStore) -> None:
        for options in ({"expected_sha256": "0" * 64}, {"expected_size": 3}, {"expected_size": 30}):
            with pytest.raises(CorruptBlob):
                store.put_stream([b"contents"], **options)  # type: ignore[arg-type]
        assert list(store.blobs()) == []
        assert list(store.leftovers()) == []

    def test_a_stream_that_breaks_off_stores_nothing(self, store: BlobStore) -> None:
        def broken() -> object:
            yield b"half"
            raise ConnectionResetError("the client went away")

        with pytest.raises(ConnectionResetError):
            store.put_stream(broken())  # type: ignore[arg-type]
        assert list(store.blobs()) == []
        assert list(store.leftovers()) == []

    def test_a_missing_blob_is_said_to_be_missing_before_the_first_piece(self, store: BlobStore) -> None:
        digest = "0" * 64
        for read in (store.iterate, store.read, store.verify):
            with pytest.raises(DamagedBlob, match=f"{digest} is damaged: its bytes are missing"):
                read(digest)
        assert store.size(digest) is None
        assert store.has(digest, 0) is False
        assert store.delete(digest) is False

    @pytest.mark.parametrize("name", ["../../etc/passwd", "", "0" * 63, "A" * 64, "0" * 64 + "\n"])
    def test_only_a_digest_names_a_blob(self, store: BlobStore, name: str) -> None:
        for look in (store.size, store.read, store.delete, store.local_path):
            with pytest.raises(InvalidName):
                look(name)

    def test_a_sweep_removes_what_is_not_kept_and_spares_what_is_young(self, store: BlobStore) -> None:
        kept, loose = store.put_stream([b"kept"]), store.put_stream([b"loose"])
        now = datetime.now(UTC)
        young = sweep(store, keep={kept.sha256}, now=now, older_than=timedelta(hours=1))
        assert young.blobs == ()
        old = sweep(store, keep={kept.sha256}, now=now + timedelta(hours=2), older_than=timedelta(hours=1))
        assert old.blobs == (loose.sha256,)
        assert old.freed == len(b"loose")
        assert [blob.sha256 for blob in store.blobs()] == [kept.sha256]


def test_the_pointer_is_the_text_that_git_lfs_writes() -> None:
    text = pointer_text("a" * 64, 12)
    assert text == f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12\n"
    by_git = subprocess.run(["git", "hash-object", "--stdin"], input=text.encode(), capture_output=True, check=True)
    assert pointer_sha1("a" * 64, 12) == by_git.stdout.decode().strip()


def test_a_location_of_another_kind_is_refused() -> None:
    with pytest.raises(StorageError, match="gs://") as caught:
        open_blobs("gs://bucket")
    assert "MIXHUB_BLOBS_URL" in caught.value.remedy
