"""Blobs in an S3-compatible store, as `<prefix>/ab/<sha256>`; endpoint and credentials come from the AWS_* variables.

Uploads go through a temporary file, because the digests must be right before the final name is given; the store then
makes an object visible at once or not at all. Neither conditional writes nor ETags are relied on: servers differ there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, cast

import obstore
from obstore.store import S3Store

from storage.blobs.contract import CHUNK, BlobInfo, Leftover, StoredBlob
from storage.blobs.hashing import check_sha256, copy_and_digest, missing
from storage.cannot_store import told
from storage.errors import StorageError

REFRESH_AFTER = timedelta(hours=1)
"""Bytes that exist already are written again when older than this, so that a sweep sees them as wanted."""


class S3Blobs:
    """Fulfils `BlobStore`. Unfinished multipart uploads are not listed: let a lifecycle rule of the bucket end them."""

    def __init__(self, url: str) -> None:
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
            there = self._info(stored.sha256)
            if there and there.size == stored.size and datetime.now(UTC) - there.modified < REFRESH_AFTER:
                return stored
            file.seek(0)
            obstore.put(self._store, _key(stored.sha256), file)
        return stored

    def iterate(
        self, sha256: str, *, start: int = 0, end: int | None = None, chunk_size: int = CHUNK
    ) -> Iterator[bytes]:
        size = self.size(sha256)
        if size is None:
            raise missing(sha256)
        stop = size if end is None else min(end, size)
        if start >= stop:
            return iter(())
        answer = obstore.get(self._store, _key(sha256), options={"range": (start, stop)})
        return _at_most(answer.stream(min_chunk_size=chunk_size), chunk_size)

    def read(self, sha256: str) -> bytes:
        return b"".join(self.iterate(sha256))

    def size(self, sha256: str) -> int | None:
        info = self._info(sha256)
        return info.size if info else None

    def local_path(self, sha256: str) -> Path | None:
        check_sha256(sha256)
        return None

    def download_url(self, sha256: str, *, seconds: int) -> str | None:
        return obstore.sign(self._store, "GET", _key(sha256), timedelta(seconds=seconds))

    def delete(self, sha256: str, *, unless_modified_since: datetime | None = None) -> bool:
        info = self._info(sha256)
        if info is None or (unless_modified_since is not None and info.modified >= unless_modified_since):
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

    def _info(self, sha256: str) -> BlobInfo | None:
        try:
            entry = obstore.head(self._store, _key(sha256))
        except FileNotFoundError:
            return None
        return BlobInfo(sha256, entry["size"], entry["last_modified"])


def _key(sha256: str) -> str:
    return f"{check_sha256(sha256)[:2]}/{sha256}"


def _at_most(pieces: Iterable[object], chunk_size: int) -> Iterator[bytes]:
    """The store sends pieces of its own size."""
    for piece in pieces:
        view = memoryview(cast(bytes, piece))
        for offset in range(0, len(view), chunk_size):
            yield bytes(view[offset : offset + chunk_size])
