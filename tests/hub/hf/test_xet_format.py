"""Xorbs and shards: what is packed comes back, and what lies about itself is refused."""

from __future__ import annotations

import io
import struct

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.hf.xet_format import Chunk, MalformedXet, hex_of, read_chunks, read_shard, unpack


def group(content: bytes) -> bytes:
    """Bytes of position 0 mod 4 first, then 1, 2, 3: as the specification says it."""
    return b"".join(content[position::4] for position in range(4))


def packed(content: bytes, scheme: int) -> bytes:
    return {0: content, 1: lz4.frame.compress(content), 2: lz4.frame.compress(group(content))}[scheme]


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.integers(0, 2)), min_size=1, max_size=8), st.booleans()
)
def test_chunks_come_back_whatever_their_scheme(contents: list[tuple[bytes, int]], footer: bool) -> None:
    xorb = b""
    for content, scheme in contents:
        data = packed(content, scheme)
        xorb += b"\0" + len(data).to_bytes(3, "little") + bytes([scheme]) + len(content).to_bytes(3, "little") + data
    file = io.BytesIO(xorb + (b"XETBLOB" + b"\1" * 40 if footer else b""))
    table = read_chunks(file)
    assert [unpack(file.getvalue()[c.start : c.start + c.packed], c) for c in table] == [c for c, _ in contents]


@given(st.binary(max_size=200))
def test_noise_is_a_xorb_or_malformed_and_nothing_else(noise: bytes) -> None:
    try:
        chunks = read_chunks(io.BytesIO(noise))
    except MalformedXet:
        return
    assert all(chunk.start + chunk.packed <= len(noise) for chunk in chunks)


@given(st.binary(max_size=400))
def test_noise_is_a_shard_or_malformed_and_nothing_else(noise: bytes) -> None:
    try:
        files = list(read_shard(b"\0" * 48 + noise))
    except MalformedXet:
        return
    assert all(len(file.sha256) == 64 for file in files)


def test_a_chunk_never_unpacks_to_more_than_it_says() -> None:
    bomb = lz4.frame.compress(b"\0" * 10_000_000)
    with pytest.raises(MalformedXet, match="1001"):
        unpack(bomb, Chunk(0, len(bomb), 1, 1000))


def test_a_shard_that_promises_more_terms_than_it_has_is_refused_at_once() -> None:
    record = b"\1" * 32 + struct.pack("<II", 1 << 30, 0xFFFFFFFF) + b"\0" * 8
    with pytest.raises(MalformedXet, match="room"):
        list(read_shard(b"\0" * 48 + record))


def test_hashes_are_written_as_four_little_endian_numbers() -> None:
    raw = bytes(range(32))
    assert hex_of(raw)[:16] == "0706050403020100"
    assert bytes.fromhex(hex_of(bytes.fromhex(hex_of(raw)))) == raw
