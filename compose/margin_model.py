"""What a mix would score, predicted from the mixes that were scored: log-odds that are linear in the weights.

An exact mix adds the adapters' changes, and to first order a model's logits follow. So the log-odds of each example's
wanted output, m = log(p / (1 - p)) with p = exp(-loss), are taken to be linear in the weights. The slopes come from the
single adapters; every further mix that is scored corrects them along the step that was made and nowhere else (Broyden,
"A class of methods for solving nonlinear simultaneous equations", 1965). The best weights under the model are then a
logistic regression of the examples on the single adapters (stacking: Wolpert, "Stacked generalization", 1992), which
costs no forward. It uses a loss per example where an optimizer of the mean uses one number per mix.

Pure functions of arrays. Knows nothing of models, trials or budgets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .prior import Prior
from .space import Space

Floats = NDArray[np.float64]

SMALLEST, LARGEST = 1e-6, 100.0
"""Losses outside, in nats, say no more than these."""
RESAMPLES = 30
"""Fits that are averaged. More changes the weights by less than the third digit."""


def log_odds(losses: Floats) -> Floats:
    """log(p / (1 - p)) with p = exp(-loss), any shape. A loss that is not a number counts as a large one."""
    clipped = np.clip(np.nan_to_num(losses, nan=LARGEST, posinf=LARGEST), SMALLEST, LARGEST)
    return np.asarray(-np.log(np.expm1(clipped)))


@dataclass(frozen=True)
class MarginModel:
    """m(w) = `margins` + (w - `at`) @ `slopes`, for C weights and E examples: (E,), (C,) and (C, E)."""

    at: Floats
    margins: Floats
    slopes: Floats

    @classmethod
    def of_singles(cls, base: Floats, singles: Floats) -> MarginModel:
        """From the example losses of the base (E,) and of each weight at 1 (C, E)."""
        margins = log_odds(base)
        return cls(np.zeros(len(singles)), margins, log_odds(singles) - margins)

    def predicted(self, weights: Floats) -> Floats:
        """(E,) losses of one weight vector (C,)."""
        return np.asarray(np.logaddexp(0.0, -self._margins_of(weights)))

    def corrected(self, weights: Floats, losses: Floats) -> MarginModel:
        """The model that is right about `weights` too, and has changed in no other direction (Broyden's update)."""
        step = weights - self.at
        length = float(step @ step)
        if length == 0:
            return self
        missed = log_odds(losses) - self._margins_of(weights)
        return replace(self, slopes=self.slopes + np.outer(step, missed) / length)

    def moved(self, weights: Floats, losses: Floats) -> MarginModel:
        """The same slopes, from `weights` and their losses on."""
        return replace(self, at=weights, margins=log_odds(losses))

    def of_examples(self, chosen: NDArray[np.int64]) -> MarginModel:
        """The model of some of the examples, in that order, with repeats."""
        return replace(self, margins=self.margins[chosen], slopes=self.slopes[:, chosen])

    def fit(self, space: Space, prior: Prior, *, moving: int | None = None) -> Floats:
        """(C,) weights of `space` with the least predicted loss, summed over the examples, plus the prior's penalty.
        Only the `moving` most promising weights leave `at`; None: all may."""
        return self._fit(space, prior, self._promising(space, prior, moving))

    def averaged_fit(self, space: Space, prior: Prior, *, seed: int, moving: int | None = None) -> Floats:
        """The mean of fits to `RESAMPLES` bootstrap samples of the examples (bagging: Breiman 1996): a weight that
        hangs on one example is small in most of them."""
        random = np.random.default_rng(seed)
        count = len(self.margins)
        free = self._promising(space, prior, moving)
        fits = [self.of_examples(random.integers(0, count, count))._fit(space, prior, free) for _ in range(RESAMPLES)]
        return np.asarray(np.mean(fits, axis=0))

    def _fit(self, space: Space, prior: Prior, free: NDArray[np.bool_]) -> Floats:
        def penalised(weights: Floats) -> tuple[float, Floats]:
            loss = np.logaddexp(0.0, -self._margins_of(weights)).sum()
            return float(loss + prior.penalties(weights)), self._gradient(prior, weights)

        return space.minimum(penalised, start=self.at, free=free)

    def _gradient(self, prior: Prior, weights: Floats) -> Floats:
        wrong = np.exp(-np.logaddexp(0.0, self._margins_of(weights)))  # 1 - p
        return np.asarray(prior.gradient(weights) - self.slopes @ wrong)

    def _promising(self, space: Space, prior: Prior, moving: int | None) -> NDArray[np.bool_]:
        """(C,) the `moving` weights along which the penalised loss falls fastest from `at`, within the space."""
        if moving is None or moving >= len(self.at):
            return np.ones(len(self.at), dtype=bool)
        slope = self._gradient(prior, self.at)
        low, high = space.bounds
        slope = np.where(((self.at <= low) & (slope > 0)) | ((self.at >= high) & (slope < 0)), 0, slope)
        free = np.zeros(len(self.at), dtype=bool)
        free[np.argsort(-np.abs(slope), kind="stable")[:moving]] = True
        return free

    def _margins_of(self, weights: Floats) -> Floats:
        return np.asarray(self.margins + (weights - self.at) @ self.slopes)
