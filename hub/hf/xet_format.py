"""The two binary formats of a Xet upload, as the public specification (huggingface.co/docs/xet) has them.

A xorb is a sequence of chunks, each with an 8-byte header: version u8 (0), compressed length u24, scheme u8, length
u24, all little-endian; then the data. Schemes: 0 as it is, 1 an LZ4 frame, 2 an LZ4 frame of bytes grouped by their
position modulo 4. A shard lists files as runs of chunks of xorbs. Hashes are written with the bytes of every 8-byte
group reversed. Nothing here trusts a length: what does not fit raises `MalformedXet`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import lz4.frame

from hub.errors import BadUpload

MAX_XORB = 64 * 2**20 + 2**20
"""Bytes of a xorb as sent."""
MAX_CHUNK = 1 * 2**20
"""Bytes of a chunk, unpacked; the format has at most 128 KiB."""
MAX_CHUNKS = 64 * 1024
MAX_SHARD = 64 * 2**20
MAX_TERMS = 4_000_000

_RECORD = 48
_SECTION_END = b"\xff" * 32
_HAS_VERIFICATION = 1 << 31
_HAS_SHA256 = 1 << 30
_U32X4 = struct.Struct("<IIII")


class MalformedXet(BadUpload):
    """Bytes that are not a xorb or shard."""


@dataclass(frozen=True)
class Chunk:
    """Where the packed bytes of a chunk lie in its xorb, and how long they are unpacked."""

    start: int
    packed: int
    scheme: int
    size: int


@dataclass(frozen=True)
class Term:
    """Chunks [first, end) of a xorb, `size` bytes when unpacked."""

    xorb: str
    first: int
    end: int
    size: int


@dataclass(frozen=True)
class ShardFile:
    """A file as runs of chunks; `sha256` of its content is required here."""

    sha256: str
    terms: tuple[Term, ...]

    @property
    def size(self) -> int:
        return sum(term.size for term in self.terms)


def hex_of(raw: bytes) -> str:
    """A 32-byte hash as it is written in URLs: four little-endian u64."""
    return b"".join(raw[i : i + 8][::-1] for i in range(0, 32, 8)).hex()


def read_chunks(xorb: BinaryIO) -> list[Chunk]:
    """The chunk table of a xorb; ends at its footer, or at the end."""
    size = xorb.seek(0, 2)
    chunks: list[Chunk] = []
    at = 0
    while at + 8 <= size:
        xorb.seek(at)
        head = xorb.read(8)
        if head[0] != 0:
            break  # the footer
        packed, scheme = int.from_bytes(head[1:4], "little"), head[4]
        unpacked = int.from_bytes(head[5:8], "little")
        if at + 8 + packed > size or unpacked > MAX_CHUNK or scheme > 2 or not unpacked:
            raise MalformedXet(f"Chunk {len(chunks)} of a xorb does not fit: {packed} bytes, scheme {scheme}.")
        chunks.append(Chunk(at + 8, packed, scheme, unpacked))
        if len(chunks) > MAX_CHUNKS:
            raise MalformedXet(f"A xorb has more than {MAX_CHUNKS} chunks.")
        at += 8 + packed
    if not chunks:
        raise MalformedXet("A xorb has no chunk.")
    return chunks


def unpack(packed: bytes, chunk: Chunk) -> bytes:
    """The chunk's bytes: exactly as many as it says, so nothing can be blown up beyond that."""
    if chunk.scheme == 0:
        content = packed
    else:
        content = _inflate(packed, chunk.size)
        if chunk.scheme == 2:
            content = _ungroup(content)
    if len(content) != chunk.size:
        raise MalformedXet(f"A chunk has {len(content)} bytes, {chunk.size} were announced.")
    return content


def read_shard(shard: bytes) -> Iterator[ShardFile]:
    """The files of a shard. What comes after them is not needed."""
    at, terms_in_all = _RECORD, 0
    while True:
        record = _record(shard, at)
        if record[:32] == _SECTION_END:
            return
        flags, count = struct.unpack_from("<II", record, 32)
        terms_in_all += count
        if terms_in_all > MAX_TERMS or at + _RECORD * (1 + count) > len(shard):
            raise MalformedXet("A file of a shard lists more chunks than the shard has room for.")
        at += _RECORD
        terms = tuple(_term(shard, at + i * _RECORD) for i in range(count))
        at += _RECORD * count * (2 if flags & _HAS_VERIFICATION else 1)
        if not flags & _HAS_SHA256:
            raise MalformedXet("A file of a shard comes without its sha256.")
        yield ShardFile(hex_of(_record(shard, at)[:32]), terms)
        at += _RECORD


def _record(shard: bytes, at: int) -> bytes:
    record = shard[at : at + _RECORD]
    if len(record) < _RECORD:
        raise MalformedXet("A shard ends in the middle.")
    return record


def _term(shard: bytes, at: int) -> Term:
    record = _record(shard, at)
    _flags, size, first, end = _U32X4.unpack_from(record, 32)
    if first >= end:
        raise MalformedXet("A shard names an empty run of chunks.")
    return Term(hex_of(record[:32]), first, end, size)


def _inflate(packed: bytes, size: int) -> bytes:
    """At most one byte more than announced is ever unpacked."""
    try:
        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=size + 1))
    except (RuntimeError, EOFError, ValueError, MemoryError) as error:
        raise MalformedXet(f"A chunk is not an LZ4 frame: {error}") from error


def _ungroup(grouped: bytes) -> bytes:
    """Bytes of position 0 mod 4 come first, then 1, 2, 3; the first len % 4 groups are one longer."""
    content = bytearray(len(grouped))
    at = 0
    for position in range(4):
        length = (len(grouped) - position + 3) // 4
        content[position::4] = grouped[at : at + length]
        at += length
    return bytes(content)
