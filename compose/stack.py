"""N adapters stacked so that K weight rows become K mixes without a loop over candidates.

Three ways, picked by the method's name (`stack_adapters`):

- element-wise methods (`lorahub`, `peft-linear`): every factor of every module lies in ONE matrix, a row per adapter;
  K mixes are one matrix product, and each module's factors are views of the result;
- `exact`: the concatenated factors are shared by all candidates; only a diagonal of w_i * s_i differs;
- any other method of `compose.methods.METHODS`: its function is called per candidate and module.

The numbers are those of `compose.merge.merge`. Knows nothing of base models, losses or searches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .adapter import LINEAR, Factors, LoraAdapter
from .compatibility import CompatibilityReport, shape_differences
from .elementwise_stack import compat_scalings, elementwise_stack, fold_balanced, root_of, same, signed_root
from .errors import IncompatibleAdapters, UnsupportedAdapter
from .gauge import procrustes
from .methods import MergeMethod, find_method
from .methods.lorahub import COMPAT, PROCRUSTES
from .methods.params import Value
from .mixed_factors import MixedFactors, Stack, checked_weights
from .row_upload import filled_tensors


def stack_adapters(
    adapters: Sequence[LoraAdapter],
    *,
    method: str = "lorahub",
    params: Mapping[str, object] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Stack:
    """Stack `adapters` for one of `METHODS` with its `params`. A module that an adapter does not change counts as zero.

    Errors: `IncompatibleAdapters` for shapes that differ, or, with the fold lorahub-compat, for ranks, scalings or
    modules that differ; `BadMethod` for an unknown method or parameter.
    """
    row = find_method(method)
    resolved = row.resolve(params or {})
    shapes = module_shapes(adapters)
    _require_plain(adapters)
    if method == "lorahub":
        if resolved["align"] == PROCRUSTES:
            adapters = _aligned(adapters, shapes)
        compat = resolved["fold"] == COMPAT
        return elementwise_stack(
            adapters if compat else [fold_balanced(adapter) for adapter in adapters],
            shapes,
            method=row,
            params=resolved,
            weight_of_a=same,
            weight_of_b=same,
            dtype=dtype,
            device=device,
            scalings_of_b=compat_scalings(adapters) if compat else None,
        )
    if method == "peft-linear":
        return elementwise_stack(
            [fold_balanced(adapter, sign_on_a=True) for adapter in adapters],
            shapes,
            method=row,
            params=resolved,
            weight_of_a=signed_root,
            weight_of_b=root_of,
            dtype=dtype,
            device=device,
        )
    if method == "exact":
        return _exact(row, shapes, adapters, dtype=dtype, device=device)
    return _PerCandidateStack(row, resolved, shapes, tuple(adapters), dtype, torch.device(device))


def _require_plain(adapters: Sequence[LoraAdapter]) -> None:
    """Scoring adds changes to the outputs of linear layers; anything else would be scored as if it were not there."""
    for adapter in adapters:
        if not adapter.is_plain:
            kinds = sorted({factors.kind for factors in adapter.modules.values()} - {LINEAR})
            extras = {
                "trained biases": adapter.biases,
                "replaced tensors": adapter.replaced,
                "IA3": adapter.multipliers,
            }
            found = [f"{kind} layers" for kind in kinds] + [name for name, held in extras.items() if held]
            raise UnsupportedAdapter(
                f"{adapter.name}: has {', '.join(found)}, which are not scored; only linear layers are",
                remedy="mix it with given weights (mixhub compose), or search without it",
            )


def _aligned(adapters: Sequence[LoraAdapter], shapes: Mapping[str, object]) -> list[LoraAdapter]:
    """Every adapter's factors after Procrustes alignment, module by module."""
    turned = {path: procrustes([adapter.modules.get(path) for adapter in adapters]) for path in shapes}
    return [
        replace(adapter, modules={path: f for path, row in turned.items() if (f := row[i]) is not None})
        for i, adapter in enumerate(adapters)
    ]


def module_shapes(adapters: Sequence[LoraAdapter]) -> dict[str, tuple[int, int]]:
    """module -> (out_features, in_features) over all adapters, in order of first appearance."""
    if not adapters:
        raise IncompatibleAdapters("there is no adapter to mix", remedy="name at least one adapter")
    CompatibilityReport(tuple(shape_differences(adapters))).raise_for_errors()
    return {module: (f.out_features, f.in_features) for adapter in adapters for module, f in adapter.modules.items()}


# --- exact: sum_i w_i s_i B_i A_i, by concatenation -----------------------------------------------------------------


@dataclass(frozen=True)
class _ExactStack:
    """Shared factors per module; `owner` (total rank,) says whose weight each rank-one part takes, `scaling` its s."""

    method: MergeMethod
    params: Mapping[str, object]
    names: tuple[str, ...]
    module_shapes: Mapping[str, tuple[int, int]]
    shared: Mapping[str, tuple[Tensor, Tensor]]
    spans: Mapping[str, tuple[int, int]]
    owner: Tensor
    scaling: Tensor

    @property
    def device(self) -> torch.device:
        return self.scaling.device

    def mix(self, weights: Tensor) -> dict[str, MixedFactors]:
        weights = checked_weights(weights, self.names).to(self.scaling)
        diagonal = weights[:, self.owner] * self.scaling
        return {
            module: MixedFactors(A=a, B=b, diagonal=diagonal[:, slice(*self.spans[module])])
            for module, (a, b) in self.shared.items()
        }


def _exact(
    method: MergeMethod,
    shapes: Mapping[str, tuple[int, int]],
    adapters: Sequence[LoraAdapter],
    *,
    dtype: torch.dtype,
    device: torch.device | str,
) -> _ExactStack:
    parts: dict[str, list[tuple[int, Factors]]] = {}
    spans: dict[str, tuple[int, int]] = {}
    owner: list[int] = []
    scaling: list[float] = []
    for module in shapes:
        start = len(owner)
        parts[module] = [(i, one.modules[module]) for i, one in enumerate(adapters) if module in one.modules]
        for i, factors in parts[module]:
            owner += [i] * factors.rank
            scaling += [factors.scaling] * factors.rank
        spans[module] = (start, len(owner))
    return _ExactStack(
        method=method,
        params={},
        names=tuple(adapter.name for adapter in adapters),
        module_shapes=shapes,
        shared=_shared(shapes, parts, dtype=dtype, device=torch.device(device)),
        spans=spans,
        owner=torch.tensor(owner, device=device),
        scaling=torch.tensor(scaling, dtype=torch.float64).to(device, dtype),
    )


def _shared(
    shapes: Mapping[str, tuple[int, int]],
    parts: Mapping[str, Sequence[tuple[int, Factors]]],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> dict[str, tuple[Tensor, Tensor]]:
    """All A's of a module below each other, all its B's side by side: module -> (total rank, in), (out, total rank)."""
    wanted: list[tuple[int, int]] = []
    pieces: list[list[Tensor]] = []
    for module, (out_features, in_features) in shapes.items():
        rank = sum(factors.rank for _, factors in parts[module])
        wanted += [(rank, in_features), (out_features, rank)]
        pieces += [[factors.A for _, factors in parts[module]], [factors.B for _, factors in parts[module]]]

    def fill(number: int, whole: Tensor) -> None:
        torch.cat([piece.to(whole.dtype) for piece in pieces[number]], dim=number % 2, out=whole)  # A, B, A, B ...

    found = iter(filled_tensors(wanted, fill, dtype=dtype, device=device))
    return {module: (next(found), next(found)) for module in shapes}


# --- any other method: its own function, per candidate and module ---------------------------------------------------


@dataclass(frozen=True)
class _PerCandidateStack:
    method: MergeMethod
    params: Mapping[str, Value]
    module_shapes: Mapping[str, tuple[int, int]]
    adapters: tuple[LoraAdapter, ...]
    dtype: torch.dtype
    place: torch.device

    @property
    def device(self) -> None:
        return None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(adapter.name for adapter in self.adapters)

    def mix(self, weights: Tensor) -> dict[str, MixedFactors]:
        rows = checked_weights(weights, self.names).tolist()
        return {module: self._mix_module(module, rows) for module in self.module_shapes}

    def _mix_module(self, module: str, rows: Sequence[Sequence[float]]) -> MixedFactors:
        factors = [adapter.modules.get(module) for adapter in self.adapters]
        merged = [self.method.apply(factors, row, self.params)[0] for row in rows]
        rank = max(one.rank for one in merged)
        out_features, in_features = self.module_shapes[module]

        def fill(number: int, whole: Tensor) -> None:
            whole.zero_()
            for mixed, one in zip(whole, merged, strict=True):
                if number == 0:
                    mixed[: one.rank] = one.A
                else:
                    mixed[:, : one.rank] = one.scaling * one.B

        shapes = [(len(rows), rank, in_features), (len(rows), out_features, rank)]
        a, b = filled_tensors(shapes, fill, dtype=self.dtype, device=self.place)
        return MixedFactors(A=a, B=b)
