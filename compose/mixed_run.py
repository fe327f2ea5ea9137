"""A search over the merge method as well as the weights, by one of nevergrad's optimizers over a mixed space.

What is there is scored first, by the method that leaves a single adapter as it is where one is named (`MethodSpace
.plain`): base (w = 0) and singles (w = 1) are the same under `exact` and `lorahub`, the uniform mix is not. Then the
optimizer goes on from the best of that, over the method, its searched options and the weights of the best adapters.
Used through `compose.search.search(methods=...)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from .baselines import check_budget, score_baselines
from .judged_run import JudgedRun
from .method_space import MethodSpace
from .nevergrad_run import FIRST_STEP, searched_count
from .trials import Ledger, Trial

TOGETHER = 3
"""How many of the best singles are tried together under every method, each at 1/sqrt(TOGETHER): as many independent
changes of one size then add up to that size."""


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
            self._try_each_method()
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

    def _try_each_method(self) -> None:
        """The best singles together, under every method: one batch."""
        best = list(self.searched[:TOGETHER])
        row = np.zeros((1, len(self._names)))
        row[0, best] = np.clip(1 / sqrt(len(best)), *self._bounds)
        rows = np.concatenate([self._methods.widened(row, way) for way in self._methods.starts])
        rows = rows[: self._ledger.left]
        self._ledger.score(rows, ["ask"] * len(rows))

    def _ask_and_tell(self) -> None:
        from .nevergrad_search import Asker  # a slow import, and not needed to read results

        ledger, best_first, (low, high) = self._ledger, list(self.searched), self._bounds
        start = self._start()
        asker = Asker(
            self.optimizer,
            start=np.clip(np.array(start.weights)[best_first], low, high).tolist(),
            bounds=self._bounds,
            budget=ledger.left + 1,  # the start is scored already
            workers=self._workers,
            seed=self._seed,
            first_step=min(FIRST_STEP, (high - low) / 2),
            methods=self._methods,
            method=start.method,
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
