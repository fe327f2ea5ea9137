"""Which trials are worth a look when several things count at once: those that no other trial beats in everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .trials import Trial


@dataclass(frozen=True)
class Tradeoff:
    """A trial (by its number) with its mean target loss, its mean guard loss (None without a guard set) and how many
    adapters it uses. Less is better in all three."""

    number: int
    target: float
    guard: float | None
    adapters: int


def tradeoffs(
    trials: Sequence[Trial], means: NDArray[np.float64] | None = None, *, groups: int = 1
) -> tuple[Tradeoff, ...]:
    """The Pareto front of `trials`, lowest target loss first. `means` (T, 2): target and guard loss of each trial; by
    default the trials' own losses, and no guard. Of trials that are equal in everything the first is kept. An
    adapter with a weight in any of its `groups` counts."""
    targets = [trial.loss for trial in trials] if means is None else means[:, 0].tolist()
    guards = [None] * len(trials) if means is None else means[:, 1].tolist()
    rows = [
        Tradeoff(trial.number, target, guard, int(np.reshape(trial.weights, (-1, groups)).any(axis=1).sum()))
        for trial, target, guard in zip(trials, targets, guards, strict=True)
    ]
    costs = np.array([[row.target, row.guard or 0.0, row.adapters] for row in rows])
    kept = [row for i, row in enumerate(rows) if not _beaten(i, costs)]
    return tuple(sorted(kept, key=lambda row: (row.target, row.number)))


def _beaten(i: int, costs: NDArray[np.float64]) -> bool:
    as_good = (costs <= costs[i]).all(axis=1)
    better = as_good & (costs < costs[i]).any(axis=1)
    return bool(better.any() or as_good[:i].any())
