"""Gradient descent on the weights through the merge: Adam (Kingma and Ba, arXiv 1412.6980), for scorers that can run
backward. A yardstick for the searches without gradients, and an option where memory allows it.

The same baselines, objective and limits as the default search. One step is one evaluation; it costs about three
forwards and holds the activations of all examples of a chunk. Used through `compose.search.search`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .baselines import check_budget, score_baselines
from .judged_run import JudgedRun
from .space import Space
from .trials import Ledger

Floats = NDArray[np.float64]

STEP = 0.1
"""The learning rate, in weight per step."""
DECAY, DECAY_OF_SQUARES, TINY = 0.9, 0.999, 1e-8
"""Adam's constants, as published."""


class Differentiable(Protocol):
    """What a scorer needs for this search."""

    def losses_and_gradients(self, weights: Floats) -> tuple[Floats, Floats]: ...


class AdamRun(JudgedRun):
    """Baselines, then projected Adam steps from the best of them that is not the base: there an element-wise mix is
    stationary."""

    optimizer = "adam"

    def __init__(
        self,
        names: tuple[str, ...],
        ledger: Ledger,
        scorer: Differentiable | None,
        *,
        seed: int,
        space: Space,
        gated: bool = True,
        top: int = 0,
    ) -> None:
        super().__init__(names, ledger, seed=seed, groups=space.groups, gated=gated, top=top)
        check_budget(ledger.budget, len(names))
        self._scorer, self._space = scorer, space

    def run(self) -> None:
        singles = score_baselines(self._ledger, len(self._names), self._groups)
        self._top_mix.score(self._ledger, singles, self._groups)
        self._search_all()
        self._descend()
        self._judge_asks()

    def _descend(self) -> None:
        if self._scorer is None:
            return
        others = self._ledger.trials[1:]
        best = min(others, key=lambda trial: (trial.objective, trial.number))
        weights = self._space.projected(np.array([best.weights]))[0]
        mean, square = np.zeros(len(weights)), np.zeros(len(weights))
        for step in range(1, self._ledger.left + 1):
            _, gradients = self._scorer.losses_and_gradients(weights[None])
            gradient = gradients[0] + self._ledger.penalty_gradient(weights)
            if self._space.simplex:  # Adam levels all slopes, and what is common to them leads out of the space
                gradient = (weights - self._space.projected((weights - STEP * gradient)[None])[0]) / STEP
            mean = DECAY * mean + (1 - DECAY) * gradient
            square = DECAY_OF_SQUARES * square + (1 - DECAY_OF_SQUARES) * gradient**2
            direction = mean / (1 - DECAY**step) / (np.sqrt(square / (1 - DECAY_OF_SQUARES**step)) + TINY)
            weights = self._space.projected((weights - STEP * direction)[None])[0]
            self._ledger.score(weights[None], ["ask"])
