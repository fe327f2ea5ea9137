"""A target that must not be paid for elsewhere: mixes that make a guard set worse count as worse than the base.

A candidate whose mean guard loss is above that of the base alone (by more than `tolerance`) has, for every example,
the larger of its own and the base's target loss, plus what it exceeds the limit by. So under any weighting of the
examples it is not better than the base, and a search still sees which way leads back (the feasibility rule of Deb,
2000, doi 10.1016/S0045-7825(99)00389-8).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .protocol import Scorer

Floats = NDArray[np.float64]

ROUNDING = 1e-5
"""Relative to the base's guard loss: less is float32 noise between batches, not harm."""


class GuardedScorer:
    """A `Scorer` of `target` within the limit that `guard`, a scorer of the same mixes on other rows, sets."""

    def __init__(self, target: Scorer, guard: Scorer, *, tolerance: float = 0.0) -> None:
        self._target, self._guard, self._tolerance = target, guard, tolerance
        self._base: tuple[Floats, float] | None = None
        self._known: dict[bytes, tuple[float, float]] = {}

    @property
    def adapter_names(self) -> tuple[str, ...]:
        return self._target.adapter_names

    @property
    def method(self) -> str:
        return self._target.method

    @property
    def method_params(self) -> Mapping[str, object]:
        return self._target.method_params

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return self._target.token_counts

    def predictions(self, weights: Floats) -> list[list[str]]:
        return self._target.predictions(weights)

    def example_losses(self, weights: Floats) -> Floats:
        base, limit = self._limits()
        losses, guards = self._measure(weights)
        excess = np.maximum(0, guards - limit)[:, None]
        return np.where(excess > 0, np.maximum(losses, base) + excess, losses)

    def means(self, weights: Floats) -> Floats:
        """(K, N) -> (K, 2): mean target loss and mean guard loss, as they are; what was scored before is remembered."""
        rows = np.ascontiguousarray(weights + 0.0)
        new = [row for row in rows if row.tobytes() not in self._known]
        if new:
            self._measure(np.array(new))
        return np.array([self._known[row.tobytes()] for row in rows])

    def _measure(self, weights: Floats) -> tuple[Floats, Floats]:
        """(K, E) target losses and (K,) mean guard losses."""
        losses, guards = self._target.example_losses(weights), self._guard.example_losses(weights).mean(axis=1)
        for row, target, guard in zip(np.ascontiguousarray(weights + 0.0), losses.mean(axis=1), guards, strict=True):
            self._known[row.tobytes()] = (float(target), float(guard))
        return losses, guards

    def _limits(self) -> tuple[Floats, float]:
        """The base's target losses (1, E), and the guard loss that no mix may exceed."""
        if self._base is None:
            losses, guards = self._measure(np.zeros((1, len(self.adapter_names))))
            self._base = losses, float(guards[0]) * (1 + ROUNDING) + self._tolerance
        return self._base
