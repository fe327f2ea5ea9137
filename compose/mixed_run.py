"""A search over the merge method as well as the weights, by one of nevergrad's optimizers over a mixed space.

What is there is scored first, by the method that leaves a single adapter as it is where one is named (`MethodSpace
.plain`): base (w = 0) and singles (w = 1) are the same under `exact` and `lorahub`, the uniform mix is not. Then the
optimizer goes on from the best of that, over the method, its searched options and the weights of the best adapters.
Used through `compose.search.search(methods=...)`.

Measured, 40 evaluations. Synthetic: one linear layer, 8 adapters, the target a mix of three by exact, lorahub or ties
(12 draws each, searched over these three with density 0.2 to 0.9), median share of the target's output left over.
Demo: 16 tasks x draws 0 and 1, exact and lorahub, exact match on 60 strings (Cobyla under exact alone 0.65, under
lorahub alone 0.48; with ties and its density too 0.61).

    optimizer            exact   lorahub   ties    demo
    Cobyla                0.02    0.19     0.20    0.65
    DiscreteOnePlusOne    0.15    0.26     0.39    0.41
    NGOpt                 0.19    0.36     0.39    0.27
    OnePlusOne            0.18    0.34     0.41    0.15
    NgIohTuned            0.23    0.30     0.44     -

So it is Cobyla, and DiscreteOnePlusOne where several are asked at once. It finds good weights and seldom the method
that made the target: under the oracle's method alone Cobyla has 0.02, 0.03 and 0.08. Starting under the method that is
best at an equal mix of the best three singles gives 0.02, 0.06 and 0.07, but 0.56 on the demo, where it is misled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .baselines import check_budget, score_baselines
from .judged_run import JudgedRun
from .method_space import MethodSpace
from .nevergrad_run import FIRST_STEP, searched_count
from .trials import Ledger, Trial


class MixedRun(JudgedRun):
    """Baselines, then asks of `optimizer` over methods and weights; the gate judges what it finds."""

    def __init__(
        self,
        names: tuple[str, ...],
        ledger: Ledger,
        methods: MethodSpace,
        *,
        seed: int,
        workers: int,
        optimizer: str,
        bounds: tuple[float, float],
    ) -> None:
        super().__init__(names, ledger, seed=seed)
        check_budget(ledger.budget, len(names))
        self.optimizer = optimizer
        self._methods, self._workers, self._bounds = methods, workers, bounds

    def run(self) -> None:
        self._choose_searched(score_baselines(self._ledger, len(self._names)))
        if self.searched and self._ledger.left:
            self._ask_and_tell()
        self._judge_asks()

    def _search_all(self) -> None:
        self._choose_searched(self._singles())

    def _choose_searched(self, singles: Sequence[Trial]) -> None:
        best_first = sorted(range(len(singles)), key=lambda i: (singles[i].objective, i))
        count = searched_count(len(singles), self._ledger.budget)
        self.searched = self._ledger.searched = tuple(best_first[:count])
        if count < len(singles):
            self.notes.append(f"The budget lets {count} of {len(singles)} adapters be searched, the best ones alone.")

    def _ask_and_tell(self) -> None:
        from .nevergrad_search import Asker  # a slow import, and not needed to read results

        ledger, best_first, (low, high) = self._ledger, list(self.searched), self._bounds
        start = self._start()
        asker = Asker(
            self.optimizer,
            start=np.clip(np.array(start.weights)[best_first], low, high).tolist(),
            bounds=self._bounds,
            budget=2 * ledger.left,  # points that differ in what their method does not have are scored once
            workers=self._workers,
            seed=self._seed,
            first_step=min(FIRST_STEP, (high - low) / 2),
            methods=self._methods,
        )
        asks = 0
        with asker:
            while ledger.left:
                points = asker.ask(min(self._workers, ledger.left))
                asks += len(points)
                if asker.finished or asks > 4 * ledger.budget:
                    self.notes.append(f"{self.optimizer} had nothing new to ask after {len(ledger.trials)} trials.")
                    return
                rows = np.zeros((len(points), len(self._names) + self._methods.columns))
                rows[:, best_first] = points[:, : len(best_first)]
                rows[:, len(self._names) :] = points[:, len(best_first) :]
                asker.tell([trial.objective for trial in ledger.score(rows, ["ask"] * len(points))])

    def _start(self) -> Trial:
        """The best so far of what the searched adapters can express."""
        idle = [i for i in range(len(self._names)) if i not in self.searched]
        known = [trial for trial in self._ledger.trials if not any(trial.weights[i] for i in idle)]
        return min(known, key=lambda trial: (trial.objective, trial.number))
