"""The methods that are compared: what each one chooses, given a cell's few-shot examples and never the test rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from quality.cell import COMPAT, EXACT, FACTORS, Cell, Merge

from compose.search import search


@dataclass(frozen=True)
class Found:
    """`evaluations`: weight rows scored on the few-shot examples; `loss`: of the chosen one, where it is known."""

    merge: Merge
    weights: tuple[float, ...]
    evaluations: int
    loss: float | None = None
    fell_back: str | None = None


def base(cell: Cell) -> Found:
    """The base model as it is: zero-shot."""
    return Found(FACTORS, (0.0,) * len(cell.names), 0)


def uniform(cell: Cell) -> Found:
    """1/N of every adapter, element-wise."""
    return Found(FACTORS, (1 / len(cell.names),) * len(cell.names), 0)


def uniform_top5(cell: Cell, *, merge: Merge = FACTORS) -> Found:
    """1/5 of each of the five adapters with the lowest few-shot losses."""
    best = cell.best_first(merge)[:5]
    return Found(merge, tuple((i in best) / len(best) for i in range(len(cell.names))), len(cell.names))


def best_single(cell: Cell) -> Found:
    """The adapter with the lowest few-shot loss, by itself."""
    best = cell.best_first(FACTORS)[0]
    return Found(FACTORS, tuple(float(i == best) for i in range(len(cell.names))), len(cell.names))


def searched(cell: Cell, *, merge: Merge = FACTORS, **options: Any) -> Found:
    """The product's search."""
    result = search(cell.names, cell.scorer(merge), budget=cell.budget, seed=cell.seed, **options)
    return Found(merge, result.weights, result.evaluations, result.loss, result.fell_back)


METHODS: dict[str, Callable[[Cell], Found]] = {
    "base": base,
    "uniform": uniform,
    "uniform_top5": uniform_top5,
    "uniform_top5_exact": partial(uniform_top5, merge=EXACT),
    "best_single": best_single,
    "lorahub": partial(searched, merge=COMPAT, preset="lorahub"),
    "default": searched,
    # candidates for the default's settings
    "default_01": partial(searched, bounds=(0.0, 1.0)),
    "exact": partial(searched, merge=EXACT),
    "exact_01": partial(searched, merge=EXACT, bounds=(0.0, 1.0)),
}
