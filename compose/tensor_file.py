"""The tensors of one safetensors file as checked float32: one read of the file, views into it, one look for NaN.

The header must have been checked (safetensors_header.py). A file is read into memory, not mapped: a folder that is
written to later cannot change, or end, what was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .errors import MalformedAdapter
from .safetensors_header import TensorHeader

_SUMMED = ("float32", "float16", "bfloat16")
"""Dtypes whose values all exist in float32: a finite sum of a whole file clears all of its tensors at once."""


class TensorFile:
    """`owner` is what messages call the adapter. `MalformedAdapter` for a file that cannot be read."""

    def __init__(self, path: Path, headers: Mapping[str, TensorHeader], *, owner: str) -> None:
        self._owner, self._headers = owner, headers
        try:
            raw = np.fromfile(path, dtype=np.uint8)
        except OSError as error:
            raise MalformedAdapter(f"{owner}: {path.name} cannot be read: {error}") from error
        if any(header.start + header.size > len(raw) for header in headers.values()):
            raise MalformedAdapter(f"{owner}: {path.name} became shorter while it was read", remedy="read it again")
        self._bytes = torch.from_numpy(raw)
        self._checked = self._all_at_once()

    def tensor(self, key: str) -> Tensor:
        """In float32; NaN or an infinity in the file, or a float64 too large for float32, is an error."""
        header = self._headers[key]
        if key in self._checked:
            return self._checked[key].view(header.shape)
        values = self._view(header.dtype, header.start, header.size).view(header.shape).to(torch.float32)
        if not torch.isfinite(values).all():
            kind = "NaN" if torch.isnan(values).any() else "infinite values"
            raise MalformedAdapter(
                f"{self._owner}: tensor {key} holds {kind}", remedy="train again; this adapter diverged"
            )
        return values

    def _view(self, dtype: str, start: int, size: int) -> Tensor:
        wanted: torch.dtype = getattr(torch, dtype)
        part = self._bytes[start : start + size]
        return (part if start % wanted.itemsize == 0 else part.clone()).view(wanted)

    def _all_at_once(self) -> dict[str, Tensor]:
        """Every tensor, flat, where one dtype makes one sum show that none holds NaN or an infinity; else nothing."""
        dtypes = {header.dtype for header in self._headers.values()}
        if len(dtypes) != 1 or not dtypes <= set(_SUMMED):
            return {}
        keys = sorted(self._headers, key=lambda key: self._headers[key].start)
        start = self._headers[keys[0]].start
        sizes = [prod(self._headers[key].shape) for key in keys]
        values = self._view(dtypes.pop(), start, sum(self._headers[key].size for key in keys)).to(torch.float32)
        if not isfinite(float(values.sum())):
            return {}
        return dict(zip(keys, torch.split(values, sizes), strict=True))
