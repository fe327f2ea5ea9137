"""N adapters stacked for a search over methods: K rows, each with a method and options of its own, become K mixes.

Every way to mix has its own `Stack` (`stack.py`), so that the numbers are those of a search by that method alone; here
rows are handed to theirs, and the factors of all are put side by side, with zeros up to the largest rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .adapter import LoraAdapter
from .errors import BadWeights
from .method_space import MethodSpace, Setting
from .methods import MergeMethod, find_method
from .mixed_factors import MixedFactors, Stack
from .sharded_stack import stack_by_device
from .stack import module_shapes


@dataclass(frozen=True)
class MethodStack:
    """A `Stack` whose rows are those of `space` (`method_space.py`), or plain weights: then by `space.plain`."""

    space: MethodSpace
    adapters: tuple[LoraAdapter, ...]
    module_shapes: Mapping[str, tuple[int, int]]
    dtype: torch.dtype
    devices: Mapping[str, torch.device]
    fixed: Mapping[str, Stack]
    """Method -> its stack, for the methods that have nothing to search but their weights."""

    @property
    def method(self) -> MergeMethod:
        return find_method(self.space.plain.method)

    @property
    def params(self) -> Mapping[str, object]:
        return self.space.plain.params

    @property
    def device(self) -> None:
        """What a row's last numbers mean is decided on the host."""
        return None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(adapter.name for adapter in self.adapters)

    def mix(self, weights: Tensor) -> dict[str, MixedFactors]:
        count = len(self.adapters)
        if weights.ndim == 2 and weights.shape[1] == count:
            return self._stack(self.space.plain).mix(weights)
        if weights.ndim != 2 or weights.shape[1] != count + self.space.columns:
            raise BadWeights(
                f"rows of shape {tuple(weights.shape)} for {count} adapters and a search over methods",
                remedy=f"give {count} weights, or these and {self.space.columns} more numbers (MethodSpace.widened)",
            )
        rows: dict[tuple[float, ...], list[int]] = {}
        for k, columns in enumerate(weights[:, count:].tolist()):
            rows.setdefault(tuple(columns), []).append(k)
        parts = [
            (places, self._stack(self.space.decode(columns)).mix(weights[places, :count]))
            for columns, places in rows.items()
        ]
        if len(parts) == 1:
            return parts[0][1]
        return {
            module: _side_by_side([(places, mixes[module]) for places, mixes in parts], len(weights))
            for module in self.module_shapes
        }

    def _stack(self, setting: Setting) -> Stack:
        return self.fixed.get(setting.method) or stack_by_device(
            self.adapters, self.devices, method=setting.method, params=setting.params, dtype=self.dtype
        )


def stack_methods(
    adapters: Sequence[LoraAdapter],
    space: MethodSpace,
    devices: Mapping[str, torch.device] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> MethodStack:
    """Stack `adapters` for every method of `space`, a module's factors on its device of `devices` (path -> device),
    by default on the CPU. Errors: those of `stack_adapters` for any of the methods."""
    shapes = module_shapes(adapters)
    fixed = {
        choice.name: stack_by_device(adapters, devices or {}, method=choice.name, params=choice.fixed, dtype=dtype)
        for choice in space.choices
        if not choice.ranges
    }
    return MethodStack(space, tuple(adapters), shapes, dtype, devices or {}, fixed)


def _side_by_side(parts: Sequence[tuple[Sequence[int], MixedFactors]], candidates: int) -> MixedFactors:
    """Factors of all candidates from those of some of them each, their positions first."""
    own = [(places, *_each_its_own(mixed, len(places))) for places, mixed in parts]
    rank = max(a.shape[1] for _, a, _ in own)
    _, some_a, some_b = own[0]
    a = some_a.new_zeros(candidates, rank, some_a.shape[2])
    b = some_b.new_zeros(candidates, some_b.shape[1], rank)
    for places, part_a, part_b in own:
        a[list(places), : part_a.shape[1]] = part_a
        b[list(places), :, : part_b.shape[2]] = part_b
    return MixedFactors(A=a, B=b)


def _each_its_own(mixed: MixedFactors, count: int) -> tuple[Tensor, Tensor]:
    """(count, rank, in) and (count, out, rank), with the diagonal in A."""
    a = mixed.A if mixed.A.ndim == 3 else mixed.A.expand(count, *mixed.A.shape)
    b = mixed.B if mixed.B.ndim == 3 else mixed.B.expand(count, *mixed.B.shape)
    return (a if mixed.diagonal is None else mixed.diagonal.unsqueeze(-1) * a), b
