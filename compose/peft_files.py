"""Reads a PEFT adapter folder into tensors, strictly: what PEFT would pass over with a warning is an error here.

safetensors only. All settings that scale the delta (alpha, rank and alpha patterns, rsLoRA) are folded into each
module's scaling; factors become float32. For facts without tensors see description.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from .adapter import Factors, LoraAdapter
from .description import (
    AdapterDescription,
    describe,
    pair_keys,
    weights_path,
)
from .errors import MalformedAdapter, UnsupportedAdapter
from .safetensors_header import read_header


@dataclass(frozen=True)
class Effect:
    """Whether an adapter changes anything: `zero_modules` have a delta of exactly zero (B or A all zero)."""

    zero_modules: tuple[str, ...]
    module_count: int

    @property
    def zero_delta(self) -> bool:
        """The adapter as a whole changes nothing, as a fresh LoRA that was never trained."""
        return len(self.zero_modules) == self.module_count


def read_adapter(directory: Path, *, name: str | None = None) -> LoraAdapter:
    """Read the adapter in `directory`; messages call it `name` (default the folder's name).

    `MalformedAdapter` for damaged files, NaN or infinite values; `UnsupportedAdapter` for a family that is not read.
    """
    facts = require_supported(describe(directory, name=name))
    return LoraAdapter(
        name=facts.name,
        modules=dict(_modules(directory, facts)),
        base_model=facts.base_model,
        task_type=facts.task_type,
        dtype=widest([getattr(torch, dtype) for dtype in facts.dtypes]),
        fan_in_fan_out=facts.fan_in_fan_out,
        config=facts.config,
    )


def effect(directory: Path, *, name: str | None = None) -> Effect:
    """Look at every value of the adapter in `directory`, one module in memory at a time; errors as `read_adapter`."""
    facts = require_supported(describe(directory, name=name))
    zero = tuple(path for path, f in _modules(directory, facts) if not (f.scaling and f.A.any() and f.B.any()))
    return Effect(zero, len(facts.modules))


def require_supported(facts: AdapterDescription) -> AdapterDescription:
    """`facts` as they are, or `UnsupportedAdapter` with the family and the reason."""
    if facts.refusal is not None:
        raise UnsupportedAdapter(f"{facts.name}: {facts.refusal.message}", remedy=facts.refusal.remedy)
    return facts


def widest(dtypes: list[torch.dtype]) -> torch.dtype:
    """The dtype that holds all of `dtypes`; float16 and bfloat16 together make float32."""
    found = dtypes[0]
    for dtype in dtypes[1:]:
        found = torch.promote_types(found, dtype)
    return found


def _modules(directory: Path, facts: AdapterDescription) -> Iterator[tuple[str, Factors]]:
    """Path and float32 factors of each module, in the order of `facts`."""
    path = weights_path(directory, facts.name)
    pairs = pair_keys(read_header(path, owner=facts.name), facts.name)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            for module in facts.modules:
                a, b = (_finite(file.get_tensor(key), key, facts.name) for key in pairs[module.path])
                yield module.path, Factors(a, b, module.scaling)
    except (safetensors.SafetensorError, OSError) as error:
        raise MalformedAdapter(f"{facts.name}: {path.name} cannot be read: {error}") from error


def _finite(tensor: Tensor, key: str, owner: str) -> Tensor:
    """`tensor` in float32; NaN or an infinity in the file, or a float64 too large for float32, is an error."""
    values = tensor.to(torch.float32)
    # NaN and infinities survive a sum, which is several times faster; a sum that overflows is looked at closely
    if not isfinite(values.sum().item()) and not torch.isfinite(values).all():
        kind = "NaN" if torch.isnan(values).any() else "infinite values"
        raise MalformedAdapter(f"{owner}: tensor {key} holds {kind}", remedy="train again; this adapter diverged")
    return values
