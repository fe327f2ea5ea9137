"""A stack for a base that lies on several devices: every module's factors are kept and mixed where the module computes.

One stack per device, of the adapters' modules that are there; a mix is made on all devices and nothing of it has to be
moved in a forward. Methods mix module by module, so the numbers are those of one stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .adapter import LoraAdapter
from .methods import MergeMethod
from .mixed_factors import MixedFactors, Stack
from .stack import stack_adapters


@dataclass(frozen=True)
class _ShardedStack:
    """`parts`: one stack per device; they differ in nothing but their modules."""

    parts: tuple[Stack, ...]
    module_shapes: Mapping[str, tuple[int, int]]

    @property
    def method(self) -> MergeMethod:
        return self.parts[0].method

    @property
    def params(self) -> Mapping[str, object]:
        return self.parts[0].params

    @property
    def device(self) -> None:
        return None

    @property
    def names(self) -> tuple[str, ...]:
        return self.parts[0].names

    def mix(self, weights: Tensor) -> dict[str, MixedFactors]:
        return {path: factors for part in self.parts for path, factors in part.mix(weights).items()}


def stack_by_device(
    adapters: Sequence[LoraAdapter],
    devices: Mapping[str, torch.device],
    *,
    method: str = "lorahub",
    params: Mapping[str, object] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Stack:
    """As `stack_adapters`, with every module's factors on its device of `devices` (path -> device); a path that is not
    there goes to the first of them. Errors are those of `stack_adapters`."""
    first = next(iter(devices.values()), torch.device("cpu"))
    places = {path: devices.get(path, first) for adapter in adapters for path in adapter.modules}
    if len(set(places.values())) < 2:
        device = next(iter(places.values()), first)
        return stack_adapters(adapters, method=method, params=params, dtype=dtype, device=device)
    parts = [
        stack_adapters(
            [_of(adapter, [path for path in adapter.modules if places[path] == device]) for adapter in adapters],
            method=method,
            params=params,
            dtype=dtype,
            device=device,
        )
        for device in dict.fromkeys(places.values())
    ]
    return _ShardedStack(tuple(parts), {path: shape for part in parts for path, shape in part.module_shapes.items()})


def _of(adapter: LoraAdapter, paths: Sequence[str]) -> LoraAdapter:
    return replace(adapter, modules={path: adapter.modules[path] for path in paths})
