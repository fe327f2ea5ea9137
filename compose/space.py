"""The weights that a search may choose: how many, within which limits, and where the middle is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLOSE = 1e-4
"""How far a sum of weights may be off its limits."""
ROUNDING = 1e-12
"""Of a sum: weights that are off by less stay as they are."""
HALVINGS = 60
"""Of an interval in which the shift of a projection lies: to the last bit."""


@dataclass(frozen=True)
class Space:
    """A weight for each adapter within `bounds`, or one for each of its `groups` of modules (all of the first adapter,
    then all of the second). With `simplex` they add up to a number within `scale`, by default to 1, in every group for
    itself: so at every module."""

    adapters: int
    bounds: tuple[float, float]
    simplex: bool = False
    groups: int = 1
    scale: tuple[float, float] = (1.0, 1.0)

    @property
    def size(self) -> int:
        return self.adapters * self.groups

    @property
    def of_whole_adapters(self) -> Space:
        """The same with one weight for each adapter."""
        return replace(self, groups=1)

    @property
    def fewest(self) -> int:
        """Adapters that must have a weight for the sum to be reached; 0 without `simplex`."""
        return ceil(self.scale[0] / self.bounds[1]) if self.simplex else 0

    @cached_property
    def uniform(self) -> Floats:
        return np.full(self.size, 1 / self.adapters)

    def minimum(
        self,
        function: Callable[[Floats], tuple[float, Floats]],
        *,
        start: Floats,
        free: NDArray[np.bool_],
    ) -> Floats:
        """Where in the space a smooth `function` (value, gradient) is least, when only `free` weights leave `start`."""
        from scipy.optimize import minimize

        start = np.clip(start, *self.bounds)
        low, high = (np.where(free, bound, start) for bound in self.bounds)
        limits = list(zip(low, high, strict=True))
        if not self.simplex:
            found = minimize(function, start, jac=True, bounds=limits, method="L-BFGS-B")
            return np.asarray(np.clip(found.x, low, high), dtype=np.float64)
        found = minimize(function, start, jac=True, bounds=limits, method="SLSQP", constraints=self._rules())
        row = np.asarray(np.clip(found.x, low, high), dtype=np.float64)
        if self._adds_up(row) or free.all():
            return row
        return self.minimum(function, start=start, free=np.ones_like(free))  # so few of them cannot keep the sums

    def projected(self, rows: Floats, *, free: Sequence[int] | None = None) -> Floats:
        """(K, C) -> (K, C): the nearest points of the space (Euclidean). Only the columns `free` move, by default all.

        Weights within limits that add up to a given sum: all are shifted by the same number, then cut off at the limits
        (Duchi et al., "Efficient projections onto the l1-ball", ICML 2008, for a lower limit only)."""
        moves = np.ones(self.size, dtype=bool) if free is None else np.isin(np.arange(self.size), list(free))
        low, high = self.bounds

        def shifted(by: Floats) -> Floats:  # (K, G) -> (K, N, G)
            moved = np.where(moves, np.clip(rows + np.tile(by, self.adapters), low, high), rows)
            return moved.reshape(-1, self.adapters, self.groups)

        none = np.zeros((len(rows), self.groups))
        if not self.simplex:
            return np.asarray(shifted(none).reshape(rows.shape))
        sums = shifted(none).sum(axis=1)
        target = np.clip(sums, *self.scale)
        widest = high - low + np.abs(rows).max(initial=0.0)
        below, above = none - widest, none + widest
        for _ in range(HALVINGS):
            middle = (below + above) / 2
            less = shifted(middle).sum(axis=1) < target
            below, above = np.where(less, middle, below), np.where(less, above, middle)
        return np.asarray(shifted(np.where(np.abs(sums - target) < ROUNDING, 0.0, above)).reshape(rows.shape))

    def contains_sums(self, row: Sequence[float]) -> bool:
        """Whether (C,) weights add up to what they should; always without `simplex`."""
        return not self.simplex or self._adds_up(np.array(row))

    def _sums(self, weights: Floats) -> Floats:
        """(G,): over the adapters, in each group."""
        return np.asarray(weights.reshape(-1, self.groups).sum(axis=0))

    def _adds_up(self, weights: Floats) -> bool:
        sums = self._sums(weights)
        return bool((sums > self.scale[0] - CLOSE).all() and (sums < self.scale[1] + CLOSE).all())

    def _rules(self) -> list[dict[str, Any]]:
        """The sums as scipy's constraints: equations, or what must not be negative."""
        low, high = self.scale
        each = np.tile(np.eye(self.groups), self.adapters)  # (G, N * G)
        if low == high:
            return [{"type": "eq", "fun": lambda w: self._sums(w) - low, "jac": lambda _: each}]
        return [
            {"type": "ineq", "fun": lambda w: self._sums(w) - low, "jac": lambda _: each},
            {"type": "ineq", "fun": lambda w: high - self._sums(w), "jac": lambda _: -each},
        ]
