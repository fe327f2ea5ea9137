"""One merge method as a row of the table: its function, its level, its typed options, and how it is applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..adapter import Factors
from ..errors import BadMethod
from ..truncate import factor_dense
from .params import Param, Value

LEVELS = {
    "factor": "on A and B, or on their rank-one units",
    "core": "on small matrices in bases that all adapters share",
    "delta": "on s B A, by its factors",
    "dense": "on s B A, entry by entry; the result is cut to a rank",
}


@dataclass(frozen=True)
class MergeMethod:
    """One row; `level` is a key of LEVELS. Of level "delta" those without `nonlinear` are linear in the weights."""

    name: str
    function: Callable[..., Any]
    level: str
    summary: str
    reference: str
    params: tuple[Param, ...] = ()
    measured: Callable[..., tuple[Factors, float]] | None = None
    """As `function`, where it may keep less than it means: with the squared norm of what it means."""
    nonlinear: bool = False

    def resolve(self, given: Mapping[str, object]) -> dict[str, Value]:
        """All options with their values; an unknown option or a bad value is `BadMethod`."""
        known = {param.name: param for param in self.params}
        self._only(given)
        return {name: param.check(self.name, given.get(name, param.default)) for name, param in known.items()}

    def parse(self, given: Mapping[str, str]) -> dict[str, Value]:
        """Options as texts, from a command line."""
        self._only(given)
        return {p.name: p.parse(self.name, given[p.name]) for p in self.params if p.name in given}

    def apply(
        self, factors: Sequence[Factors | None], weights: Sequence[float], options: Mapping[str, Value]
    ) -> tuple[Factors, float | None]:
        """Merge one module; with the squared norm of what was meant before it was cut, `None` where nothing is cut."""
        if self.level == "dense":
            rank = options["rank"]
            matrix: Tensor = self.function(factors, weights, **{k: v for k, v in options.items() if k != "rank"})
            bound = rank if isinstance(rank, int) else sum(f.rank for f in factors if f is not None)
            return factor_dense(matrix, bound), matrix.double().square().sum().item()
        if self.measured is not None:
            return self.measured(factors, weights, **options)
        merged: Factors = self.function(factors, weights, **options)
        return merged, None

    def _only(self, given: Mapping[str, object]) -> None:
        names = [param.name for param in self.params]
        for name in given:
            if name not in names:
                raise BadMethod(
                    f"method {self.name!r} has no option {name!r}", remedy=f"its options: {', '.join(names) or 'none'}"
                )
