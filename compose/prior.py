"""What is believed of the weights before anything is scored: a Gaussian around multiples of the uniform mix.

Weights are written as c u + d: u the uniform mix, c how much of it (the sum of the weights, where there are no groups),
d the rest, at right angles to u. d is held near 0 by `strength` and c near `total` by `total_strength`: adapters of one
base share what any task of its kind takes, so that more of all of them is less of a risk than much of one; but far
from the base nothing that was measured at single weights of 1 holds any more.

The numbers were chosen on tasks that have an adapter of their own, that one left out, and on draws 0 and 1 of the
held-out tasks (tests/benchmarks/results/bench_quality_fit.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TOTAL, TOTAL_STRENGTH = 2.0, 2.0
"""The sum of the weights, and nats per squared distance to it, unless something else is said: the bold mix of the
default search believes in larger sums, and less firmly (`fitted_run.py`)."""


@dataclass(frozen=True)
class Prior:
    """`strength` in nats per squared weight; with `groups` weights for each adapter it is of the mean over groups.
    `total` is the sum of the weights that is expected, but 1 for each adapter where these are fewer, and
    `total_strength` in nats per squared distance to it."""

    strength: float
    groups: int = 1
    total: float = TOTAL
    total_strength: float = TOTAL_STRENGTH

    def penalties(self, weights: Floats) -> Floats:
        """(..., N * G) -> (...), in nats."""
        total, rest = self._parts(weights)
        off = total - self._expected(weights)
        return np.asarray(self.strength / self.groups * (rest**2).sum(axis=-1) + self.total_strength * off**2)

    def gradient(self, weights: Floats) -> Floats:
        """(N * G,) -> (N * G,)"""
        total, rest = self._parts(weights)
        off = total - self._expected(weights)
        return np.asarray(2 * self.strength / self.groups * rest + 2 * self.total_strength / self.groups * off)

    def _expected(self, weights: Floats) -> float:
        return min(self.total, float(weights.shape[-1] / self.groups))

    def _parts(self, weights: Floats) -> tuple[Floats, Floats]:
        """c (...) and d (..., N * G)"""
        total = weights.sum(axis=-1) / self.groups
        return total, weights - weights.mean(axis=-1, keepdims=True)
