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
    """One weight per adapter within `bounds`; with `simplex` they add up to 1."""

    adapters: int
    bounds: tuple[float, float]
    simplex: bool = False

    @cached_property
    def uniform(self) -> Floats:
        return np.full(self.adapters, 1 / self.adapters)

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
            rule = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}
            found = minimize(function, start, jac=True, bounds=limits, method="SLSQP", constraints=rule)
        else:
            found = minimize(function, start, jac=True, bounds=limits, method="L-BFGS-B")
        return np.asarray(np.clip(found.x, low, high), dtype=np.float64)
