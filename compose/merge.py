"""Merge whole adapters, module by module, by any method of METHODS; says in a report what came out.

Knows nothing of files and of base models: whether the adapters belong to one base is decided before (compatibility.py);
here only shapes are compared. Pure: the inputs are not changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from .adapter import Factors, LoraAdapter
from .compatibility import CompatibilityReport, identical_settings, shape_differences
from .errors import BadWeights, IncompatibleAdapters
from .methods import MergeMethod, find_method
from .methods.exact import exact
from .methods.lorahub import COMPAT
from .peft_files import widest

SIGN_NOTE = (
    "this merge is quadratic in the weights: f(w) = f(-w), one adapter at -1 counts as at +1, and a negative weight "
    "takes nothing away by itself; use exact or svd to subtract an adapter"
)


@dataclass(frozen=True)
class ModuleReport:
    """One merged module: its `rank`, and the share (0..1) of the exact delta's squared norm that it keeps.

    `retained_energy` is `None` for element-wise methods, which do not approximate the exact delta.
    """

    path: str
    rank: int
    retained_energy: float | None


@dataclass(frozen=True)
class MergeReport:
    """What was merged, how, and what a reader should know about it (`notes`)."""

    method: str
    params: dict[str, str | int | None]
    weights: tuple[float, ...]
    modules: tuple[ModuleReport, ...]
    retained_energy: float | None
    """Over all modules together; `None` for element-wise methods."""
    notes: tuple[str, ...] = ()

    @property
    def max_rank(self) -> int:
        return max(module.rank for module in self.modules)


@dataclass(frozen=True)
class MergeResult:
    """The merged adapter (scaling 1 everywhere) and its report."""

    adapter: LoraAdapter
    report: MergeReport


def merge(
    adapters: Sequence[LoraAdapter],
    weights: Sequence[float],
    *,
    method: str = "lorahub",
    name: str = "merged",
    **params: str | int | None,
) -> MergeResult:
    """Merge `adapters` with one weight each; `params` are the options of the method (METHODS[method].params).

    A module that an adapter lacks counts as a zero delta. Raises `BadWeights`, `BadMethod`, `IncompatibleAdapters`.
    """
    chosen = find_method(method)
    options = chosen.resolve(params)
    check_weights(adapters, weights)
    check_mixable(adapters, fold=options.get("fold"))
    modules: dict[str, Factors] = {}
    norms: dict[str, tuple[float, float]] = {}
    for path in sorted({path for adapter in adapters for path in adapter.modules}):
        factors = [adapter.modules.get(path) for adapter in adapters]
        modules[path] = chosen.function(factors, weights, **options)
        if chosen.truncates:
            norms[path] = (squared_norm(modules[path]), squared_norm(exact(factors, weights)))
    report = MergeReport(
        method=method,
        params=options,
        weights=tuple(float(weight) for weight in weights),
        modules=tuple(ModuleReport(path, f.rank, _share(chosen, [path], norms)) for path, f in modules.items()),
        retained_energy=_share(chosen, modules, norms),
        notes=(SIGN_NOTE,) if method == "lorahub" and any(weight < 0 for weight in weights) else (),
    )
    return MergeResult(_named(name, modules, adapters), report)


def check_weights(adapters: Sequence[LoraAdapter], weights: Sequence[float]) -> None:
    """As many weights as adapters, at least one, all finite; else `BadWeights`."""
    if not adapters:
        raise BadWeights("there is no adapter to merge", remedy="give at least one adapter")
    if len(weights) != len(adapters):
        raise BadWeights(
            f"{len(adapters)} adapters were given with {len(weights)} weights", remedy="give one weight per adapter"
        )
    for adapter, weight in zip(adapters, weights, strict=True):
        if not isfinite(weight):
            raise BadWeights(f"{adapter.name}: the weight is {weight}, expected a finite number")


def check_mixable(adapters: Sequence[LoraAdapter], *, fold: object = None) -> None:
    """Shapes agree, and with fold `lorahub-compat` ranks, scalings and modules too; else `IncompatibleAdapters`."""
    differences = shape_differences(adapters)
    if fold == COMPAT:
        differences += identical_settings(adapters)
    CompatibilityReport(tuple(differences)).raise_for_errors()
    if not any(adapter.modules for adapter in adapters):
        raise IncompatibleAdapters("none of these adapters has a module to merge")


def squared_norm(factors: Factors) -> float:
    """||s B A||^2 (Frobenius) by the small matrices B^T B and A A^T, in float64, without the dense delta."""
    a, b = factors.A.double(), factors.B.double()
    return float(((b.T @ b) * (a @ a.T)).sum()) * factors.scaling**2


def _share(method: MergeMethod, paths: Iterable[str], norms: Mapping[str, tuple[float, float]]) -> float | None:
    """The share of the exact delta's squared norm that the merge keeps in the modules at `paths`."""
    if method.level != "delta":
        return None
    if not method.truncates:
        return 1.0
    kept, whole = (sum(pair) for pair in zip(*(norms[path] for path in paths), strict=True))
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
