"""The methods that are compared: what each one chooses, given a cell's few-shot examples and never the test rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from quality.cell import COMPAT, EXACT, FACTORS, Cell, Floats, Merge

from compose.default_search import baseline_count, searched_count
from compose.nevergrad_search import Asker
from compose.objective import DEFAULT_L1, default_objective
from compose.search import search

PRESET_L1 = 0.8
"""The preset's penalty beside a loss that is not divided by the number of examples: 0.05 times 16 of them."""


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


def searched_from_top5(cell: Cell, *, merge: Merge, bounds: tuple[float, float], l1: float = DEFAULT_L1) -> Found:
    """Not in the product: its optimizer and budget, but started from the uniform mix of the five best singles, over as
    many singles as the product would search, and free to end above the best single's few-shot loss."""
    scorer, objective, count = cell.scorer(merge), default_objective(l1), len(cell.names)
    best = cell.best_first(merge)
    among = sorted(best[: max(5, searched_count(count, cell.budget))])
    start = np.array([[(i in best[:5]) / 5 for i in among]])
    tried: list[tuple[float, float, tuple[float, ...]]] = []

    def score(points: Floats) -> list[float]:
        rows = np.zeros((len(points), count))
        rows[:, among] = points
        losses = objective.reduce(scorer.example_losses(rows), scorer.token_counts)
        values = losses + objective.penalties(rows)
        tried.extend(
            (float(v), float(loss), tuple(row.tolist())) for v, loss, row in zip(values, losses, rows, strict=True)
        )
        return [float(value) for value in values]

    left = cell.budget - baseline_count(count)
    with Asker("Cobyla", start=start[0].tolist(), bounds=bounds, budget=left, workers=1, seed=cell.seed) as asker:
        for _ in range(left):
            points = asker.ask(1)
            if asker.finished:
                break
            asker.tell(score(points))
    _, loss, weights = min(tried)
    return Found(merge, weights, baseline_count(count) + len(tried), loss)


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
    "default_01_l1": partial(searched, bounds=(0.0, 1.0), l1=PRESET_L1),
    "exact_01_l1": partial(searched, merge=EXACT, bounds=(0.0, 1.0), l1=PRESET_L1),
    "top5start_01": partial(searched_from_top5, merge=FACTORS, bounds=(0.0, 1.0)),
    "top5start_01_l1": partial(searched_from_top5, merge=FACTORS, bounds=(0.0, 1.0), l1=PRESET_L1),
    "top5start_exact_01": partial(searched_from_top5, merge=EXACT, bounds=(0.0, 1.0)),
    "top5start_exact_01_l1": partial(searched_from_top5, merge=EXACT, bounds=(0.0, 1.0), l1=PRESET_L1),
}
