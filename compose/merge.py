"""Merge whole adapters, module by module, by any method of METHODS; says in a report what came out.

Knows nothing of files: whether the adapters belong to one base is decided before (compatibility.py); here only shapes
are compared. Pure: the inputs are not changed. What adapters carry besides low-rank changes does not depend on the
method: added biases by sum w_i b_i, IA3 by formats/ia3.py, replaced tensors by policy (replacements.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .adapter import Factors, LoraAdapter, Multiplier
from .base_weights import BaseWeights
from .compatibility import CompatibilityReport, compare_kinds, identical_settings, shape_differences
from .errors import BadWeights, IncompatibleAdapters
from .formats.ia3 import mix_multipliers
from .layer_weights import Weight, check_weight, main_weight, weights_at
from .methods import MergeMethod, find_method
from .methods.lorahub import COMPAT
from .methods.params import Value
from .peft_files import widest
from .replacements import check_policies, mix_replacements
from .truncate import squared_norm, truncate_measured

SIGN_NOTE = (
    "this merge is quadratic in the weights: f(w) = f(-w), one adapter at -1 counts as at +1, and a negative weight "
    "takes nothing away by itself; use exact or svd to subtract an adapter"
)
IA3_NOTE = "IA3 is mixed by l = 1 + sum w (l - 1), whatever the method"


@dataclass(frozen=True)
class ModuleReport:
    """One merged module: its `rank`, and the share (0..1) of the squared norm of what the method means that it keeps.

    `retained_energy` is `None` for element-wise methods that were not cut, which approximate nothing.
    """

    path: str
    rank: int
    retained_energy: float | None


@dataclass(frozen=True)
class MergeReport:
    """What was merged, how, and what a reader should know about it (`notes`)."""

    method: str
    params: dict[str, Value]
    weights: tuple[float, ...]
    modules: tuple[ModuleReport, ...]
    retained_energy: float | None
    """Over all modules together; `None` as in `ModuleReport`."""
    notes: tuple[str, ...] = ()

    @property
    def max_rank(self) -> int:
        return max((module.rank for module in self.modules), default=0)


@dataclass(frozen=True)
class MergeResult:
    """The merged adapter (scaling 1 everywhere) and its report."""

    adapter: LoraAdapter
    report: MergeReport


@dataclass(frozen=True)
class _Merged:
    """One module: its factors, and the squared norms of what is kept and of what was meant, where it was cut."""

    factors: Factors
    norms: tuple[float, float] | None


def merge(
    adapters: Sequence[LoraAdapter],
    weights: Sequence[Weight],
    *,
    method: str = "lorahub",
    name: str = "merged",
    max_rank: int | None = None,
    policies: Mapping[str, str] | None = None,
    base: BaseWeights | None = None,
    **params: Value,
) -> MergeResult:
    """Merge `adapters` with one weight each; `params` are the options of the method (METHODS[method].params).

    A weight is a number, or numbers by globs over modules (layer_weights.py). A module that an adapter lacks counts as
    a zero delta. `max_rank` cuts the result by singular values. `policies` and `base` are for replaced tensors.
    Raises `BadWeights`, `BadMethod`, `IncompatibleAdapters`.
    """
    chosen = find_method(method)
    options = chosen.resolve(params)
    check_weights(adapters, weights)
    check_policies(policies or {}, [adapter.name for adapter in adapters])
    check_mixable(adapters, fold=options.get("fold"))
    merged = {
        path: _merge_module(chosen, options, path, adapters, weights, max_rank)
        for path in sorted({path for adapter in adapters for path in adapter.modules})
    }
    replaced = mix_replacements(adapters, weights, policies=policies or {}, base=base)
    multipliers = _multipliers(adapters, weights)
    result = replace(
        _named(name, {path: one.factors for path, one in merged.items()}, adapters),
        biases=_biases(adapters, weights),
        replaced=replaced,
        multipliers=multipliers,
    )
    report = MergeReport(
        method=method,
        params=options,
        weights=tuple(main_weight(weight) for weight in weights),
        modules=tuple(ModuleReport(path, one.factors.rank, _share(chosen, [one])) for path, one in merged.items()),
        retained_energy=_share(chosen, merged.values()),
        notes=_notes(method, weights, multipliers),
    )
    return MergeResult(result, report)


def check_weights(adapters: Sequence[LoraAdapter], weights: Sequence[Weight]) -> None:
    """As many weights as adapters, at least one, all finite; else `BadWeights`."""
    if not adapters:
        raise BadWeights("there is no adapter to merge", remedy="give at least one adapter")
    if len(weights) != len(adapters):
        raise BadWeights(
            f"{len(adapters)} adapters were given with {len(weights)} weights", remedy="give one weight per adapter"
        )
    for adapter, weight in zip(adapters, weights, strict=True):
        check_weight(weight, adapter.name)


def check_mixable(adapters: Sequence[LoraAdapter], *, fold: object = None) -> None:
    """Kinds and shapes agree, and with fold `lorahub-compat` ranks, scalings and modules too."""
    differences = compare_kinds(adapters) + shape_differences(adapters)
    if fold == COMPAT:
        differences += identical_settings(adapters)
    CompatibilityReport(tuple(differences)).raise_for_errors()
    if not any(a.modules or a.multipliers or a.replaced for a in adapters):
        raise IncompatibleAdapters("none of these adapters has a module to merge")


def _merge_module(
    chosen: MergeMethod,
    options: Mapping[str, Value],
    path: str,
    adapters: Sequence[LoraAdapter],
    weights: Sequence[Weight],
    max_rank: int | None,
) -> _Merged:
    factors = [adapter.modules.get(path) for adapter in adapters]
    some = next(one for one in factors if one is not None)
    found, meant = chosen.apply(factors, weights_at(weights, path), options)
    if max_rank is not None and found.rank > max_rank:
        found, before = truncate_measured(found, max_rank)
        meant = before if meant is None else meant
    norms = None if meant is None else (squared_norm(found), meant)
    return _Merged(replace(found, kind=some.kind, kernel=some.kernel), norms)


def _biases(adapters: Sequence[LoraAdapter], weights: Sequence[Weight]) -> dict[str, Tensor]:
    """sum w_i b_i; scalings are in the b_i."""
    total: dict[str, Tensor] = {}
    for path in sorted({path for adapter in adapters for path in adapter.biases}):
        for adapter, weight in zip(adapters, weights_at(weights, path), strict=True):
            if path in adapter.biases:
                total[path] = total.get(path, torch.zeros(())) + weight * adapter.biases[path]
    return total


def _multipliers(adapters: Sequence[LoraAdapter], weights: Sequence[Weight]) -> dict[str, Multiplier]:
    paths = sorted({path for adapter in adapters for path in adapter.multipliers})
    return {
        path: mix_multipliers([adapter.multipliers.get(path) for adapter in adapters], weights_at(weights, path))
        for path in paths
    }


def _notes(method: str, weights: Sequence[Weight], multipliers: Mapping[str, Multiplier]) -> tuple[str, ...]:
    if multipliers:
        return (IA3_NOTE,)
    numbers = [n for weight in weights for n in (weight.values() if isinstance(weight, Mapping) else [weight])]
    return (SIGN_NOTE,) if method == "lorahub" and any(number < 0 for number in numbers) else ()


def _share(method: MergeMethod, modules: Iterable[_Merged]) -> float | None:
    """The share of the squared norm of what the method means that the merge keeps in `modules`."""
    known = list(modules)
    if all(one.norms is None for one in known):
        return None if method.level == "factor" else 1.0
    norms = [one.norms or (size := squared_norm(one.factors), size) for one in known]
    kept, whole = (sum(column) for column in zip(*norms, strict=True))
    return min(1.0, kept / whole) if whole > 0 else 1.0


def _named(name: str, modules: dict[str, Factors], adapters: Sequence[LoraAdapter]) -> LoraAdapter:
    """The result as an adapter; it keeps the task type only where all agree."""
    task_types = {adapter.task_type for adapter in adapters}
    return LoraAdapter(
        name=name,
        modules=modules,
        base_model=next((adapter.base_model for adapter in adapters if adapter.base_model), None),
        task_type=task_types.pop() if len(task_types) == 1 else None,
        dtype=widest([adapter.dtype for adapter in adapters]),
        fan_in_fan_out=any(adapter.fan_in_fan_out for adapter in adapters),
    )
