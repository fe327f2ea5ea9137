"""Where the marks of the page's pictures lie. Coordinates only, in units of the picture's own box; colours and words
are the template's. Values that are not finite are never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.searches import Trial

WIDTH, HEIGHT, LEFT, BOTTOM = 720.0, 300.0, 72.0, 46.0
MOST_BARS = 40
FAMILIES = {"base": "base", "uniform": "base", "single": "single", "top": "single", "fold": "fold"}
"""Kinds of trials that look alike in the picture; all others were asked for by the optimizer. A fold was fitted without
some of the examples: it serves the held-out estimate, and its loss on all of them is no mix to be chosen."""


@dataclass(frozen=True)
class Mark:
    x: float
    y: float
    family: str
    title: str
    clipped: bool
    """The value lies above the picture; it is drawn at its upper edge."""


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """Trials as marks, the best so far as a line of steps."""

    marks: tuple[Mark, ...]
    best: str
    """Points of a polyline."""
    base: float | None
    """Where the base model's loss lies; None: outside of the picture, or unknown."""
    base_above: str
    """The base model's loss, where it lies above the picture."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    left_out: int
    """Trials whose loss was not finite."""


@dataclass(frozen=True)
class Bar:
    """A horizontal bar from the middle; all in percent of half the width. `error` reaches that far to both sides."""

    name: str
    value: float
    length: float
    negative: bool
    error: float
    text: str


@dataclass(frozen=True)
class Cell:
    """A field of a heat map; `strength` is in percent of the strongest."""

    text: str
    strength: float
    negative: bool


def heat_map(rows: Mapping[str, Sequence[float]]) -> dict[str, list[Cell]]:
    """The rows that are not all 0, the heaviest first."""
    used = {name: values for name, values in rows.items() if any(values)}
    largest = max((abs(value) for values in used.values() for value in values), default=0.0) or 1.0
    ordered = sorted(used, key=lambda name: -sum(abs(value) for value in used[name]))
    return {name: [Cell(f"{v:+.3f}", abs(v) / largest * 100, v < 0) for v in used[name]] for name in ordered}


def convergence(trials: Sequence[Trial]) -> Curve | None:
    """The losses of all trials in order; None where fewer than two are finite."""
    finite = [trial for trial in trials if math.isfinite(trial.loss)]
    if len(finite) < 2:
        return None
    low, high = _range([trial.loss for trial in finite])
    last = max(trial.number for trial in trials)

    def x(number: float) -> float:
        return LEFT + (number - 1) / max(1, last - 1) * (WIDTH - LEFT - 12)

    def y(loss: float) -> float:
        return 10 + (high - min(max(loss, low), high)) / (high - low) * (HEIGHT - BOTTOM - 10)

    marks: list[Mark] = []
    steps: list[tuple[float, float]] = []
    best = math.inf
    for trial in finite:
        title = f"trial {trial.number} ({trial.kind}): loss {trial.loss:.4f}"
        family = FAMILIES.get(trial.kind, "asked")
        marks.append(Mark(x(trial.number), y(trial.loss), family, title, trial.loss > high))
        if steps:
            steps.append((x(trial.number), steps[-1][1]))
        if family != "fold":
            best = min(best, trial.loss)
        if math.isfinite(best):
            steps.append((x(trial.number), y(best)))
    base = next((trial.loss for trial in finite if trial.kind == "base"), None)
    return Curve(
        tuple(marks),
        " ".join(f"{a:.1f},{b:.1f}" for a, b in steps),
        None if base is None or base > high else y(base),
        "" if base is None or base <= high else f"{base:.3g}",
        tuple(Tick(x(number), str(number)) for number in _whole_steps(last)),
        tuple(Tick(y(value), f"{value:.3g}") for value in _round_steps(low, high)),
        len(trials) - len(finite),
    )


def bars(values: Mapping[str, float], errors: Mapping[str, float] | None = None, *, sign: bool = True) -> list[Bar]:
    """A bar each, in the order given; at most MOST_BARS, those with the largest values."""
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    kept = set(sorted(finite, key=lambda name: -abs(finite[name]))[:MOST_BARS])
    spread = errors or {}
    largest = max((abs(finite[name]) + spread.get(name, 0.0) for name in kept), default=0.0) or 1.0
    return [
        Bar(
            name,
            value,
            abs(value) / largest * 100,
            value < 0,
            spread.get(name, 0.0) / largest * 100,
            f"{value:+z.4f}" if sign else f"{value:.4f}",
        )
        for name, value in finite.items()
        if name in kept
    ]


def _range(losses: Sequence[float]) -> tuple[float, float]:
    """Lowest loss, and an upper edge that a few very bad trials do not push away from the rest."""
    ordered = sorted(losses)
    low, middle, top = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    high = min(top, max(ordered[int(0.9 * (len(ordered) - 1))], low + 3 * (middle - low)))
    if high - low <= 1e-9 * max(abs(low), abs(high), 1.0):
        high = low + max(abs(low), 1.0) * 0.1
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def _round_steps(low: float, high: float) -> list[float]:
    """About four round numbers between."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def _whole_steps(last: int) -> list[int]:
    """1, and whole steps up to the last trial."""
    step = max(1, round(last / 8))
    step = next((size for size in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000) if size >= step), step)
    return [1, *(number for number in range(step, last + 1, step) if number > 1)]
