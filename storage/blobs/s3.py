"""Blobs in an S3-compatible store, as `<prefix>/ab/<sha256>`; endpoint and credentials come from the AWS_* variables.

Uploads go through a temporary file, because the digests must be right before the final name is given; the store then
makes an object visible at once or not at all, in the place of whatever is there: so putting the right bytes repairs
wrong ones, and a sweep sees them as wanted. Conditional writes are not relied on: servers differ there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, cast

import obstore
from obstore.store import S3Store

from storage.blobs.contract import BlobInfo, Leftover, StoredBlob
from storage.blobs.hashing import check_sha256, copy_and_digest
from storage.blobs.verified import Identity, OnDamage, VerifiedReads
from storage.cannot_store import told
from storage.errors import StorageError


class S3Blobs(VerifiedReads):
    """Fulfils `BlobStore`. Unfinished multipart uploads are not listed: let a lifecycle rule of the bucket end them."""

    def __init__(self, url: str, on_damage: OnDamage | None = None) -> None:
        super().__init__(on_damage)
        self.url = url
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise StorageError(f"{url!r} names no bucket.", remedy="Set MIXHUB_BLOBS_URL to s3://bucket/prefix.")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        self._store = S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            client_options={"allow_http": endpoint.startswith("http://")},
        )

    def __repr__(self) -> str:
        return f"S3Blobs({self.url!r})"

    def put_file(
        self, path: Path, *, expected_sha256: str | None = None, expected_size: int | None = None
    ) -> StoredBlob:
        with path.open("rb") as file:
            return self.put_stream(file, expected_sha256=expected_sha256, expected_size=expected_size)

    @told
    def put_stream(
        self,
        chunks: Iterable[bytes] | BinaryIO,
        *,
        expected_sha256: str | None = None,
        expected_size: int | None = None,
    ) -> StoredBlob:
        with tempfile.TemporaryFile() as spool:
            file = cast(BinaryIO, spool)
            stored = copy_and_digest(chunks, file, expected_sha256=expected_sha256, expected_size=expected_size)
            file.seek(0)
            obstore.put(self._store, _key(stored.sha256), file)
        self._trust(stored.sha256)
        return stored

    def delete(self, sha256: str, *, unless_modified_since: datetime | None = None) -> bool:
        found = self._head(sha256)
        if found is None or (unless_modified_since is not None and found["last_modified"] >= unless_modified_since):
            return False
        obstore.delete(self._store, _key(sha256))
        return True

    def blobs(self) -> Iterator[BlobInfo]:
        for page in obstore.list(self._store):
            for entry in page:
                name = entry["path"].rpartition("/")[2]
                if entry["path"] == f"{name[:2]}/{name}":  # anything else in the bucket is not ours
                    yield BlobInfo(name, entry["size"], entry["last_modified"])

    def leftovers(self) -> Iterator[Leftover]:
        return iter(())

    def delete_leftover(self, name: str) -> None:
        raise NotImplementedError(f"an S3 store lists no leftovers, so there is none named {name!r}")

    def _head(self, sha256: str) -> obstore.ObjectMeta | None:
        try:
            return obstore.head(self._store, _key(sha256))
        except FileNotFoundError:
            return None

    def _identity(self, sha256: str) -> Identity | None:
        found = self._head(sha256)
        return None if found is None else Identity(found["size"], (found["e_tag"], found["last_modified"]))

    def _pieces(self, sha256: str, start: int, end: int | None, chunk_size: int) -> Generator[bytes]:
        if start == 0 and end is None:
            answer = obstore.get(self._store, _key(sha256))
        else:
            size = self.size(sha256) or 0
            stop = size if end is None else min(end, size)
            if start >= stop:
                return
            answer = obstore.get(self._store, _key(sha256), options={"range": (start, stop)})
        yield from _at_most(answer.stream(min_chunk_size=chunk_size), chunk_size)

    def _place(self, sha256: str) -> Path | None:
        check_sha256(sha256)
        return None

    def _address(self, sha256: str, seconds: int) -> str | None:
        return obstore.sign(self._store, "GET", _key(sha256), timedelta(seconds=seconds))


def _key(sha256: str) -> str:
    return f"{check_sha256(sha256)[:2]}/{sha256}"


def _at_most(pieces: Iterable[object], chunk_size: int) -> Iterator[bytes]:
    """The store sends pieces of its own size."""
    for piece in pieces:
        view = memoryview(cast(bytes, piece))
        for offset in range(0, len(view), chunk_size):
            yield bytes(view[offset : offset + chunk_size])
