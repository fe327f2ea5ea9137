"""Gradient descent on the weights through the merge by `torch.optim.Adam` (Kingma and Ba, arXiv 1412.6980), for scorers
that can run backward. A yardstick for the searches without gradients, and an option where memory allows it.

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
        import torch  # what reads results needs none

        others = self._ledger.trials[1:]
        best = min(others, key=lambda trial: (trial.objective, trial.number))
        weights = torch.from_numpy(self._space.projected(np.array([best.weights]))[0])
        adam = torch.optim.Adam([weights], lr=STEP)
        for _ in range(self._ledger.left):
            weights.grad = torch.from_numpy(self._slope(self._scorer, weights.numpy()))
            adam.step()
            row = self._space.projected(weights.numpy()[None])
            weights.copy_(torch.from_numpy(row[0]))
            self._ledger.score(row, ["ask"])

    def _slope(self, scorer: Differentiable, weights: Floats) -> Floats:
        """(N,): of the objective; on the simplex only what stays within it, since Adam levels all slopes, and what is
        common to them leads out."""
        _, gradients = scorer.losses_and_gradients(weights[None])
        slope = np.asarray(gradients[0] + self._ledger.penalty_gradient(weights))
        if not self._space.simplex:
            return slope
        return np.asarray((weights - self._space.projected((weights - STEP * slope)[None])[0]) / STEP)
