"""The header of a safetensors file: names, dtypes and shapes, checked without reading or loading any tensor.

Format: 8 bytes little-endian length n, n bytes JSON {name: {dtype, shape, data_offsets}, "__metadata__": {text: text}},
then the data; the offsets must cover it without holes or overlap. Every refusal is `MalformedAdapter`. Needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import BinaryIO, TypeGuard

from .errors import MalformedAdapter

MAX_HEADER = 100_000_000
MAX_TENSORS = 1_000_000
MAX_NAME = 500
"""Bytes and rows of a header, characters of a name; the safetensors library has the same byte limit."""

AGAIN = "save or download the file again"
PICKLE = "load it with PEFT and call save_pretrained(), which writes adapter_model.safetensors"

# name in the file -> (bytes of one element, name in this package)
DTYPES: dict[str, tuple[int, str]] = {
    "BOOL": (1, "bool"),
    "U8": (1, "uint8"),
    "I8": (1, "int8"),
    "F8_E4M3": (1, "float8_e4m3fn"),
    "F8_E5M2": (1, "float8_e5m2"),
    "U16": (2, "uint16"),
    "I16": (2, "int16"),
    "F16": (2, "float16"),
    "BF16": (2, "bfloat16"),
    "U32": (4, "uint32"),
    "I32": (4, "int32"),
    "F32": (4, "float32"),
    "U64": (8, "uint64"),
    "I64": (8, "int64"),
    "F64": (8, "float64"),
}


@dataclass(frozen=True)
class TensorHeader:
    """One tensor as the header says it: `dtype` as torch names it, `shape` in elements, its bytes in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    size: int = 0


def read_header(path: Path, *, owner: str | None = None) -> dict[str, TensorHeader]:
    """Name -> dtype and shape, in the file's order. `owner` is what messages call the file (default its name)."""
    name = owner or path.name
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            raw = _header_bytes(file, size, name)
    except OSError as error:
        raise MalformedAdapter(f"{name}: cannot read the weights: {error.strerror}", remedy="check the path") from error
    return dict(_tensors(raw, size, name))


def _header_bytes(file: BinaryIO, size: int, name: str) -> bytes:
    start = file.read(8)
    if start == b"version ":
        raise MalformedAdapter(
            f"{name}: is a Git LFS pointer, not the weights themselves", remedy="run `git lfs pull` first"
        )
    # a header of 640 bytes begins as a pickle does, but the upper half of its length is zero
    if start[:4] == b"PK\x03\x04" or (start[:2] == b"\x80\x02" and start[4:] != bytes(4)):
        raise MalformedAdapter(f"{name}: is a pickle under another name, not safetensors", remedy=PICKLE)
    if len(start) < 8:
        raise MalformedAdapter(f"{name}: is cut short: {size} bytes, not even a header", remedy=AGAIN)
    length = int.from_bytes(start, "little")
    if length > MAX_HEADER:
        raise MalformedAdapter(f"{name}: says its header has {length} bytes, at most {MAX_HEADER} are read")
    if length > size - 8:
        raise MalformedAdapter(
            f"{name}: is cut short: the header should have {length} bytes, {size - 8} are there", remedy=AGAIN
        )
    return file.read(length)


def _parse(raw: bytes, name: str) -> dict[str, object]:
    def no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands twice")
        return found

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=no_twins)
    except (ValueError, RecursionError) as error:
        raise MalformedAdapter(f"{name}: is not safetensors: the header cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise MalformedAdapter(f"{name}: is not safetensors: the header is no JSON object")
    if len(header) > MAX_TENSORS:
        raise MalformedAdapter(f"{name}: the header lists {len(header)} tensors, at most {MAX_TENSORS} are read")
    return header


@lru_cache(maxsize=2)  # whoever describes an adapter goes on to read it
def _tensors(raw: bytes, size: int, name: str) -> Mapping[str, TensorHeader]:
    """From a header's bytes; the data lies behind it, up to `size`, the end of the file."""
    header, begin = _parse(raw, name), 8 + len(raw)
    _check_metadata(header.get("__metadata__", {}), name)
    found = {key: _tensor(key, entry, begin, name) for key, entry in header.items() if key != "__metadata__"}
    at = begin
    for key, tensor in sorted(found.items(), key=lambda item: (item[1].start, item[1].size)):
        if tensor.start != at:
            kind = "overlaps the one before" if tensor.start < at else "leaves a hole before it"
            raise MalformedAdapter(
                f"{name}: tensor {key!r} {kind}: starts at byte {tensor.start - begin}, expected {at - begin}"
            )
        at += tensor.size
    if at != size:
        what = "is cut short" if at > size else "has bytes that belong to no tensor"
        raise MalformedAdapter(
            f"{name}: {what}: {size - begin} bytes of data, the header lists {at - begin}", remedy=AGAIN
        )
    return found


def _check_metadata(metadata: object, name: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise MalformedAdapter(f"{name}: __metadata__ must map texts to texts")


def _tensor(key: str, entry: object, begin: int, name: str) -> TensorHeader:
    """One entry, its span counted from `begin`; it must have the bytes that dtype and shape need."""
    if len(key) > MAX_NAME or not key.isprintable():
        raise MalformedAdapter(f"{name}: a tensor has the impossible name {key[:MAX_NAME]!r}")
    if not isinstance(entry, dict):
        raise MalformedAdapter(f"{name}: the header's entry of {key!r} is no object")
    dtype, shape, span = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise MalformedAdapter(f"{name}: tensor {key!r} has the unknown dtype {str(dtype)[:40]!r}")
    if not _sizes(shape) or len(shape) > 16:
        raise MalformedAdapter(f"{name}: tensor {key!r} has the impossible shape {str(shape)[:200]}")
    if not _sizes(span) or len(span) != 2:
        raise MalformedAdapter(f"{name}: tensor {key!r} has impossible offsets {str(span)[:200]}")
    width, dtype_name = DTYPES[dtype]
    needed = width * prod(shape)
    if span[1] - span[0] != needed:
        raise MalformedAdapter(
            f"{name}: tensor {key!r} holds {span[1] - span[0]} bytes, shape {shape} of {dtype_name} needs {needed}"
        )
    return TensorHeader(dtype_name, tuple(shape), begin + span[0], needed)


def _sizes(value: object) -> TypeGuard[list[int]]:
    if not isinstance(value, list):
        return False
    for size in value:  # noqa: SIM110  # called for every tensor: three times as fast as all()
        if type(size) is not int or not 0 <= size < 2**63:
            return False
    return True
