"""A stack in which every adapter has a weight per group of modules: one ordinary stack for each group, side by side.

Each group's stack holds the adapters with the modules of that group alone, so that a method sees what `merge` shows it
for a module, nothing is mixed twice, and the whole takes the room of one stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .adapter import LoraAdapter
from .methods import MergeMethod
from .mixed_factors import MixedFactors, Stack, checked_weights
from .module_groups import ModuleGroups, column_names
from .sharded_stack import stack_by_device


@dataclass(frozen=True)
class _GroupedStack:
    """`names` has all groups of the first adapter, then those of the second; `stacks` one for each group."""

    names: tuple[str, ...]
    stacks: tuple[Stack, ...]
    module_shapes: Mapping[str, tuple[int, int]]

    @property
    def method(self) -> MergeMethod:
        return self.stacks[0].method

    @property
    def params(self) -> Mapping[str, object]:
        return self.stacks[0].params

    @property
    def device(self) -> torch.device | None:
        found = {stack.device for stack in self.stacks}
        return found.pop() if len(found) == 1 else None

    def mix(self, weights: Tensor) -> dict[str, MixedFactors]:
        weights = checked_weights(weights, self.names)
        mixes: dict[str, MixedFactors] = {}
        for group, stack in enumerate(self.stacks):
            mixes |= stack.mix(weights[:, group :: len(self.stacks)])
        return {module: mixes[module] for module in self.module_shapes}


def stack_by_groups(
    adapters: Sequence[LoraAdapter],
    groups: ModuleGroups,
    devices: Mapping[str, torch.device] | None = None,
    *,
    method: str = "lorahub",
    params: Mapping[str, object] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Stack:
    """As `stack_by_device` (without `devices` all on the CPU), for weight rows (K, N * G). Errors: its own;
    `SearchError` for a module in no group."""
    paths = list(dict.fromkeys(path for adapter in adapters for path in adapter.modules))
    stacks = tuple(
        stack_by_device(
            [_part(adapter, set(members)) for adapter in adapters], devices or {}, method=method, params=params,
            dtype=dtype,
        )
        for members in groups.parts(paths)
    )  # fmt: skip
    shapes = {path: shape for stack in stacks for path, shape in stack.module_shapes.items()}
    names = column_names([adapter.name for adapter in adapters], groups)
    return _GroupedStack(names, stacks, {path: shapes[path] for path in paths})


def _part(adapter: LoraAdapter, members: set[str]) -> LoraAdapter:
    return replace(adapter, modules={path: f for path, f in adapter.modules.items() if path in members})
