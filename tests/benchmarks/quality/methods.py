"""The methods that are compared: what each one chooses, given a cell's few-shot examples and never the test rows."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from quality.cell import COMPAT, EXACT, FACTORS, Cell, Merge
from quality.finetune import TRAININGS, finetuned

from compose.adapter import LoraAdapter
from compose.search import search


@dataclass(frozen=True)
class Found:
    """`evaluations`: weight rows scored on the few-shot examples (training steps for `finetune`); `loss`: of the chosen
    one, where it is known; `adapter`: one that was trained, instead of weights for those there are."""

    merge: Merge
    weights: tuple[float, ...]
    evaluations: int
    loss: float | None = None
    fell_back: str | None = None
    adapter: LoraAdapter | None = None


def base(cell: Cell) -> Found:
    """The base model as it is: zero-shot."""
    return Found(EXACT, (0.0,) * len(cell.names), 0)


def uniform_top5(cell: Cell) -> Found:
    """1/5 of each of the five adapters with the lowest few-shot losses."""
    best = cell.best_first(EXACT)[:5]
    return Found(EXACT, tuple((i in best) / len(best) for i in range(len(cell.names))), len(cell.names))


def best_single(cell: Cell) -> Found:
    """The adapter with the lowest few-shot loss, by itself."""
    best = cell.best_first(EXACT)[0]
    return Found(EXACT, tuple(float(i == best) for i in range(len(cell.names))), len(cell.names))


def searched(cell: Cell, *, merge: Merge = EXACT, **options: Any) -> Found:
    """The product's search."""
    result = search(cell.names, cell.scorer(merge), budget=cell.budget, seed=cell.seed, **options)
    return Found(merge, result.weights, result.evaluations, result.loss, result.fell_back)


def trained(cell: Cell) -> Found:
    """A new adapter, trained on the few examples alone."""
    bench = cell.draw.bench
    adapter = finetuned(bench.base, bench.task.draw(cell.draw.number, cell.shots), bench.task.labels, seed=cell.seed)
    return Found(EXACT, (1.0,), TRAININGS[bench.base.kind].steps, adapter=adapter)


METHODS: dict[str, Callable[[Cell], Found]] = {
    "base": base,
    "best_single": best_single,
    "uniform_top5": uniform_top5,
    "lorahub": partial(searched, merge=COMPAT, preset="lorahub"),
    "default": searched,
    "default_elementwise": partial(searched, merge=FACTORS),
    "cobyla": partial(searched, optimizer="Cobyla"),
    "adam": partial(searched, optimizer="adam"),
    "finetune": trained,
}


def methods_of(words: str) -> list[str]:
    """The methods of a list with commas; the base first, because gains need it."""
    names = words.split(",")
    if unknown := set(names) - METHODS.keys():
        raise ArgumentTypeError(f"there is no method {', '.join(sorted(unknown))}; choose from {', '.join(METHODS)}")
    return ["base", *(name for name in names if name != "base")]
