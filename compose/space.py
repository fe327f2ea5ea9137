"""The weights that a search may choose: how many, within which limits, and where the middle is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """A weight for each adapter within `bounds`, or one for each of its `groups` of modules (all of the first adapter,
    then all of the second). With `simplex` they add up to 1, in every group for itself: so at every module."""

    adapters: int
    bounds: tuple[float, float]
    simplex: bool = False
    groups: int = 1

    @property
    def size(self) -> int:
        return self.adapters * self.groups

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
        if self.simplex:
            sums = np.tile(np.eye(self.groups), self.adapters)  # (G, N * G): one sum for each group
            rule = {"type": "eq", "fun": lambda w: w.reshape(-1, self.groups).sum(axis=0) - 1, "jac": lambda _: sums}
            found = minimize(function, start, jac=True, bounds=limits, method="SLSQP", constraints=rule)
        else:
            found = minimize(function, start, jac=True, bounds=limits, method="L-BFGS-B")
        return np.asarray(np.clip(found.x, low, high), dtype=np.float64)
