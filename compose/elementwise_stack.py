"""Element-wise mixes of N adapters as ONE matrix: A = sum_i f(w_i) A_i and B = sum_i g(w_i) B_i, for K rows w at once.

`lorahub` has f(w) = g(w) = w; `peft-linear` has f(w) = sign(w) sqrt|w| and g(w) = sqrt|w|. Scalings are folded into the
factors before stacking (`fold_balanced`, `compat_scalings`), so that a mix has scaling 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from .adapter import Factors, LoraAdapter
from .compatibility import CompatibilityReport, identical_settings
from .methods import MergeMethod
from .mixed_factors import MixedFactors, Stack, checked_weights
from .row_upload import filled_rows


@dataclass(frozen=True)
class _Slot:
    """Where a module's factors lie: A (rank, in) from `start_a`, B (out, rank) from `start_b` in the B part."""

    start_a: int
    start_b: int
    rank: int
    in_features: int
    out_features: int


@dataclass(frozen=True)
class _ElementwiseStack:
    """`matrix` is (N, total): all A's of an adapter, then all its B's, zero-padded to the highest rank per module."""

    method: MergeMethod
    params: Mapping[str, object]
    names: tuple[str, ...]
    module_shapes: Mapping[str, tuple[int, int]]
    matrix: Tensor
    size_a: int
    slots: Mapping[str, _Slot]
    weight_of_a: Callable[[Tensor], Tensor]
    weight_of_b: Callable[[Tensor], Tensor]

    @property
    def device(self) -> torch.device:
        return self.matrix.device

    def mix(self, weights: Tensor) -> dict[str, MixedFactors]:
        weights = checked_weights(weights, self.names).to(self.matrix)
        if self.weight_of_a is self.weight_of_b:
            mixed = self.weight_of_a(weights) @ self.matrix
            part_a, part_b = mixed[:, : self.size_a], mixed[:, self.size_a :]
        else:
            part_a = self.weight_of_a(weights) @ self.matrix[:, : self.size_a]
            part_b = self.weight_of_b(weights) @ self.matrix[:, self.size_a :]
        return {module: _views(part_a, part_b, slot) for module, slot in self.slots.items()}


def _views(part_a: Tensor, part_b: Tensor, slot: _Slot) -> MixedFactors:
    candidates = part_a.shape[0]
    a = part_a[:, slot.start_a : slot.start_a + slot.rank * slot.in_features]
    b = part_b[:, slot.start_b : slot.start_b + slot.rank * slot.out_features]
    return MixedFactors(
        A=a.view(candidates, slot.rank, slot.in_features), B=b.view(candidates, slot.out_features, slot.rank)
    )


def elementwise_stack(
    folded: Sequence[LoraAdapter],
    shapes: Mapping[str, tuple[int, int]],
    *,
    method: MergeMethod,
    params: Mapping[str, object],
    weight_of_a: Callable[[Tensor], Tensor],
    weight_of_b: Callable[[Tensor], Tensor],
    dtype: torch.dtype,
    device: torch.device | str,
    scalings_of_b: Mapping[str, float] | None = None,
) -> Stack:
    """Lay out adapters whose scalings are folded already. `shapes`: module -> (out_features, in_features).
    `scalings_of_b`: module -> what all its B's are still to be multiplied by."""
    slots: dict[str, _Slot] = {}
    size_a = size_b = 0
    for module, (out_features, in_features) in shapes.items():
        rank = max(adapter.modules[module].rank for adapter in folded if module in adapter.modules)
        slots[module] = _Slot(size_a, size_b, rank, in_features, out_features)
        size_a += rank * in_features
        size_b += rank * out_features
    matrix = filled_rows(
        len(folded), size_a + size_b, lambda i, row: _fill(row, folded[i], slots),
        dtype=dtype, device=torch.device(device),
    )  # fmt: skip
    if scalings_of_b is not None:
        _scale(matrix[:, size_a:], slots, scalings_of_b)
    names = tuple(adapter.name for adapter in folded)
    return _ElementwiseStack(method, params, names, shapes, matrix, size_a, slots, weight_of_a, weight_of_b)


def _fill(row: Tensor, adapter: LoraAdapter, slots: Mapping[str, _Slot]) -> None:
    """All A's, then all B's, in one copy; padded with zeros where a module is missing or has a smaller rank."""
    parts: list[Tensor] = []
    for module, slot in slots.items():
        found = adapter.modules.get(module)
        a = row.new_zeros(slot.rank, slot.in_features) if found is None else found.A
        parts.append(functional.pad(a, (0, 0, 0, slot.rank - len(a))) if len(a) < slot.rank else a)
    for module, slot in slots.items():
        found = adapter.modules.get(module)
        b = row.new_zeros(slot.out_features, slot.rank) if found is None else found.B
        parts.append(functional.pad(b, (0, slot.rank - b.shape[1])) if b.shape[1] < slot.rank else b)
    torch.cat(
        [part.reshape(-1) if part.dtype == row.dtype else part.reshape(-1).to(row.dtype) for part in parts], out=row
    )


def _scale(part_b: Tensor, slots: Mapping[str, _Slot], scalings: Mapping[str, float]) -> None:
    """In place, where the values lie already; at once where all scalings are equal."""
    if len(set(scalings.values())) == 1:
        part_b.mul_(next(iter(scalings.values())))
        return
    for module, slot in slots.items():
        part_b[:, slot.start_b : slot.start_b + slot.rank * slot.out_features].mul_(scalings[module])


def fold_balanced(adapter: LoraAdapter, *, sign_on_a: bool = False) -> LoraAdapter:
    """sqrt|s| into either factor and the sign of s into B (or A): the same deltas with scaling 1."""

    def fold(factors: Factors) -> Factors:
        root = math.sqrt(abs(factors.scaling))
        signed = math.copysign(root, factors.scaling)
        return Factors(A=(signed if sign_on_a else root) * factors.A, B=(root if sign_on_a else signed) * factors.B)

    return replace(adapter, modules={module: fold(factors) for module, factors in adapter.modules.items()})


def compat_scalings(adapters: Sequence[LoraAdapter]) -> dict[str, float]:
    """The first adapter's scalings for all, as LoRAHub's reference code has it; they multiply the mixed B once."""
    host = adapters[0]
    for adapter in adapters[1:]:
        _same_layout(host, adapter)
    return {module: factors.scaling for module, factors in host.modules.items()}


def _same_layout(host: LoraAdapter, adapter: LoraAdapter) -> None:
    CompatibilityReport(tuple(identical_settings([host, adapter]))).raise_for_errors()


def same(weights: Tensor) -> Tensor:
    """LoRAHub: the weight itself."""
    return weights


def root_of(weights: Tensor) -> Tensor:
    return weights.abs().sqrt()


def signed_root(weights: Tensor) -> Tensor:
    return weights.sign() * weights.abs().sqrt()
