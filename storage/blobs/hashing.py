"""The digests of a blob: sha256 of its bytes, and the two git ids that the Hugging Face protocol shows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from storage.blobs.contract import CHUNK, StoredBlob
from storage.errors import CorruptBlob, InvalidName

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def check_sha256(sha256: str) -> str:
    """Digests become file names, so anything else is refused here."""
    if _SHA256.fullmatch(sha256) is None:
        raise InvalidName(f"{sha256[:80]!r} is not a sha256: expected 64 lower-case hex digits.")
    return sha256


def pointer_text(sha256: str, size: int) -> str:
    """The git-LFS pointer that stands for a large file in git."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"


def pointer_sha1(sha256: str, size: int) -> str:
    """The git blob id of the pointer text."""
    text = pointer_text(sha256, size).encode()
    return hashlib.sha1(_git_header(len(text)) + text, usedforsecurity=False).hexdigest()


def pieces(source: Iterable[bytes] | BinaryIO) -> Iterator[bytes]:
    """The bytes of an open binary file or of an iterable of chunks."""
    if hasattr(source, "read"):
        while piece := source.read(CHUNK):
            yield piece
    else:
        yield from source


def copy_and_digest(
    source: Iterable[bytes] | BinaryIO,
    target: BinaryIO,
    *,
    expected_sha256: str | None = None,
    expected_size: int | None = None,
) -> StoredBlob:
    """Write `source` to `target` (opened for reading too) and digest it.

    Git puts the size before the content, so its sha1 needs a second pass over `target` unless the size is known.
    Raises CorruptBlob as soon as more bytes arrive than expected, or at the end on any other difference.
    """
    sha256, sha1, size = hashlib.sha256(), _git_sha1(expected_size), 0
    for piece in pieces(source):
        size += len(piece)
        if expected_size is not None and size > expected_size:
            raise CorruptBlob(f"More bytes arrived than the {expected_size} that were announced.")
        target.write(piece)
        sha256.update(piece)
        if sha1 is not None:
            sha1.update(piece)
    if expected_size is not None and size != expected_size:
        raise CorruptBlob(f"{size} bytes arrived, {expected_size} were announced.")
    if expected_sha256 is not None and sha256.hexdigest() != expected_sha256:
        raise CorruptBlob(f"The bytes have the sha256 {sha256.hexdigest()}, expected {expected_sha256}.")
    if sha1 is None:
        target.seek(0)
        sha1 = hashlib.sha1(_git_header(size), usedforsecurity=False)
        for piece in pieces(target):
            sha1.update(piece)
    return StoredBlob(sha256.hexdigest(), size, sha1.hexdigest())


def _git_header(size: int) -> bytes:
    return b"blob %d\x00" % size


def _git_sha1(size: int | None) -> hashlib._Hash | None:
    return None if size is None else hashlib.sha1(_git_header(size), usedforsecurity=False)
