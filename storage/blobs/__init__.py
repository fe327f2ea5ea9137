"""Bytes by their sha256: on local disk, or in an S3-compatible store.

    blobs = open_blobs("/home/me/.mixhub/blobs")        # or "s3://bucket/prefix"
    stored = blobs.put_file(Path("adapter_model.safetensors"))
    content = b"".join(blobs.iterate(stored.sha256))

A blob exists under its final name completely or not at all, also after a kill or a power cut; what a disk does to it
later is found when it is read (`storage.blobs.verified`). This package knows no database: which blobs are used, and by
whom, is in `storage.blob_records`. Bytes are stored first, rows last.
"""

from __future__ import annotations

from pathlib import Path

from storage.blobs.contract import BlobInfo, BlobStore, Leftover, StoredBlob, sweep
from storage.blobs.hashing import pointer_sha1, pointer_text
from storage.blobs.local import LocalBlobs
from storage.blobs.s3 import S3Blobs
from storage.blobs.verified import OnDamage
from storage.errors import StorageError

__all__ = [
    "BlobInfo", "BlobStore", "Leftover", "LocalBlobs", "S3Blobs", "StoredBlob", "open_blobs", "pointer_sha1",
    "pointer_text", "sweep",
]  # fmt: skip


def open_blobs(location: str | Path, on_damage: OnDamage | None = None) -> BlobStore:
    """The store at a folder (made on first use), a `file://` URL or `s3://bucket/prefix`.

    `on_damage` is told of every blob that is found damaged when it is read.
    """
    place = str(location)
    if place.startswith("s3://"):
        return S3Blobs(place, on_damage)
    if place.startswith("file://"):
        place = place.removeprefix("file://")
    if "://" in place:
        raise StorageError(
            f"Blobs cannot be kept at {place.split('://')[0]}://.",
            remedy="Set MIXHUB_BLOBS_URL to a folder or to s3://bucket/prefix.",
        )
    return LocalBlobs(Path(place), on_damage)
