"""Rewrites one safetensors file with some of its tensors changed, a block of rows in memory at a time.

Unchanged tensors are copied as bytes. A changed one is read, computed in float32 and rounded once to the file's dtype,
BLOCK values at a time; so memory is bounded whatever the sizes of tensor and file. Knows nothing of adapters but
`Change.apply`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .errors import BaseModelError
from .safetensors_header import DTYPES, TensorHeader, read_header
from .weight_changes import Change, row_size

BLOCK = 1 << 23
"""Float32 values in memory at a time (32 MiB)."""
COPY = 1 << 22
_FLOATING = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
_CODES = {name: code for code, (_, name) in DTYPES.items()}


@dataclass(frozen=True)
class Written:
    """`max_rounding` is the largest |rounded - float32| of any changed value; `size` the bytes of all tensors."""

    max_rounding: float
    size: int


def rewrite(source: Path, target: Path, changes: Mapping[str, Change], metadata: Mapping[str, str]) -> Written:
    """Write `source` with `changes` to `target`; a new tensor comes last, in its start's dtype."""
    headers = read_header(source, owner=f"{source.parent.name}/{source.name}")
    names = [*headers, *(name for name in changes if name not in headers)]
    layout = {name: _planned(name, headers, changes) for name in names}
    largest, size = 0.0, sum(header.size for header in layout.values())
    with source.open("rb") as reader, target.open("wb") as writer:
        writer.write(_header(layout, metadata))
        for name in names:
            if name in changes:
                start = headers[changes[name].start]
                largest = max(largest, _change(reader, writer, start, layout[name], changes[name], name))
            else:
                _copy(reader, writer, headers[name])
    return Written(largest, size)


def _planned(name: str, headers: Mapping[str, TensorHeader], changes: Mapping[str, Change]) -> TensorHeader:
    """The header of the tensor as it will be written."""
    if name not in changes:
        return headers[name]
    dtype, shape = headers[changes[name].start].dtype, changes[name].shape
    if dtype not in _FLOATING:
        raise BaseModelError(f"{name} of the base has dtype {dtype}, expected floating point")
    return TensorHeader(dtype, shape, 0, DTYPES[_CODES[dtype]][0] * prod(shape))


def _header(layout: Mapping[str, TensorHeader], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, header in layout.items():
        span = [at, at + header.size]
        entries[name] = {"dtype": _CODES[header.dtype], "shape": list(header.shape), "data_offsets": span}
        at += header.size
    raw = json.dumps(entries, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # the data begins at a multiple of 8, as the safetensors library writes
    return len(raw).to_bytes(8, "little") + raw


def _copy(reader: BinaryIO, writer: BinaryIO, header: TensorHeader) -> None:
    reader.seek(header.start)
    left = header.size
    while left:
        chunk = reader.read(min(COPY, left))
        writer.write(chunk)
        left -= len(chunk)


def _change(
    reader: BinaryIO, writer: BinaryIO, start: TensorHeader, planned: TensorHeader, change: Change, name: str
) -> float:
    """Write one changed tensor block by block; the largest rounding."""
    dtype, columns = _FLOATING[planned.dtype], row_size(planned.shape)
    rows, step = planned.shape[0], max(1, BLOCK // max(1, columns))
    width = columns * (planned.size // max(1, prod(planned.shape)))
    largest = 0.0
    reader.seek(start.start)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        known = max(0, min(count, start.shape[0] - first))  # an embedding that grew has rows that the base lacks
        block = torch.zeros(count, columns)
        if known:
            block[:known] = torch.frombuffer(bytearray(reader.read(known * width)), dtype=dtype).view(known, columns)
        change.apply(block, first)
        rounded = block.to(dtype)
        largest = max(largest, _rounding(rounded, block, dtype, name))
        writer.write(rounded.view(torch.uint8).numpy().data)
    return largest


def _rounding(rounded: Tensor, exact: Tensor, dtype: torch.dtype, name: str) -> float:
    if dtype in (torch.float32, torch.float64):
        worst = exact.abs().max().item()  # rounds nothing; NaN and infinities show here
        largest = 0.0
    else:
        largest = worst = exact.sub_(rounded).abs_().max().item()
    if not worst < float("inf"):
        raise BaseModelError(
            f"{name} would hold values that {dtype} cannot hold", remedy="fuse into a float32 copy of the base"
        )
    return largest
