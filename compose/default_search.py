"""The default search: what is there is scored first, then an optimizer goes on from the best of it.

Why so (measured; 13 targets, 12 adapters, 40 evaluations): w = 0 is a stationary point of an element-wise mix, and
single adapters are the best points known for their price. Started from the best of them Cobyla reached a median
objective of 0.65, the reference's NGOpt from 0 1.09.

Cobyla first looks along one weight after the other, so the adapters are given to it best first, and its first step is
FIRST_STEP: chosen on draws 0 and 1 of the shipped demo's tasks, then seen on draws 2 to 4 (48 cells): exact match from
0.29 to 0.45. Used through `compose.search.search`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .errors import SearchError
from .trials import Baselines, Kind, Ledger, Trial

FIRST_STEP = 0.75
"""In weight; the single adapters were scored at 1. Half the range where that is less."""


class DefaultRun:
    """Baselines first, then an optimizer over the best single adapters from the best point so far."""

    def __init__(
        self,
        names: tuple[str, ...],
        ledger: Ledger,
        *,
        seed: int,
        workers: int,
        optimizer: str,
        bounds: tuple[float, float],
    ) -> None:
        check_budget(ledger.budget, len(names))
        self.optimizer = optimizer
        self.searched: tuple[int, ...] = ()
        self.notes: list[str] = []
        self._names, self._ledger = names, ledger
        self._seed, self._workers, self._bounds = seed, workers, bounds

    def run(self) -> None:
        self._choose_searched(self._score_baselines())
        if self.searched and self._ledger.left:
            self._ask_and_tell()

    def run_no_further(self) -> None:
        """Settle on the trials that the ledger holds already: nothing is scored."""
        count = len(self._names)
        there = self._ledger.trials[: baseline_count(count)]
        if len(there) < baseline_count(count):
            raise SearchError("the search has not scored its baselines yet", remedy="resume it without --finish")
        self._choose_searched(there[-count:])

    def _choose_searched(self, singles: Sequence[Trial]) -> None:
        count = len(self._names)
        m = searched_count(count, self._ledger.budget)
        best_first = sorted(range(count), key=lambda i: (singles[i].objective, i))
        self.searched = self._ledger.searched = tuple(best_first[:m])
        if m < count:
            self.notes.append(self._small_budget_note())

    @property
    def baselines(self) -> Baselines:
        """There once anything is: they are scored as one batch."""
        base, *others = self._ledger.trials[: baseline_count(len(self._names))]
        singles = others[-len(self._names) :]
        best = min(range(len(singles)), key=lambda i: (singles[i].loss, i))
        return Baselines(base, others[0], singles[best], self._names[best])

    def choose(self) -> Trial:
        limit = self.baselines.lowest_loss
        return min(
            (trial for trial in self._ledger.trials if trial.loss <= limit), key=lambda t: (t.objective, t.number)
        )

    def fell_back(self, chosen: Trial) -> str | None:
        if chosen.kind == "single":
            return self._names[chosen.weights.index(1.0)]
        return None if chosen.kind == "ask" else chosen.kind

    def _small_budget_note(self) -> str:
        count = len(self._names)
        enough = baseline_count(count) + 2 * (count + 1)
        if not self.searched:
            whom = "its weight" if count == 1 else f"the weights of all {count} adapters"
            return f"The baselines leave too little of the budget to search a mix; --budget {enough} searches {whom}."
        what = ", ".join(self._names[i] for i in self.searched)
        lets = f"The budget lets {len(self.searched)} of {count} adapters be searched ({what})"
        return f"{lets}; --budget {enough} searches all."

    def _score_baselines(self) -> list[Trial]:
        """One batch; gives the trials of the single adapters, in order."""
        count = len(self._names)
        rows = np.concatenate([np.zeros((1, count)), np.full((1, count), 1 / count), np.eye(count)])
        single: Kind = "single"
        kinds: list[Kind] = ["base", "uniform", *([single] * count)]
        if count == 1:
            rows, kinds = rows[[0, 2]], ["base", "single"]
        base, *others = self._ledger.score(rows, kinds)
        if not math.isfinite(base.loss):
            raise SearchError(
                f"the base model's own loss is {base.loss}", remedy="score in a wider number format: --dtype float32"
            )
        return others[-count:]

    def _ask_and_tell(self) -> None:
        from .nevergrad_search import Asker  # a slow import, and not needed to read results

        start = self._start()
        asker = Asker(
            self.optimizer,
            start=np.clip([start.weights[i] for i in self.searched], *self._bounds).tolist(),
            bounds=self._bounds,
            budget=self._ledger.left + 1,  # the start is scored already
            workers=self._workers,
            seed=self._seed,
            first_step=min(FIRST_STEP, (self._bounds[1] - self._bounds[0]) / 2),
        )
        asks = 0
        with asker:
            while self._ledger.left:
                points = asker.ask(min(self._workers, self._ledger.left))
                asks += len(points)
                if asker.finished or asks > 4 * self._ledger.budget:
                    self.notes.append(
                        f"{self.optimizer} had nothing new to ask after {len(self._ledger.trials)} trials."
                    )
                    return
                trials = self._ledger.score(self._rows(points), ["ask"] * len(points))
                asker.tell([trial.objective for trial in trials])

    def _start(self) -> Trial:
        """The best point so far that the searched adapters can express."""

        def expressible(trial: Trial) -> bool:
            return all(weight == 0 or i in self.searched for i, weight in enumerate(trial.weights))

        return min(filter(expressible, self._ledger.trials), key=lambda trial: (trial.objective, trial.number))

    def _rows(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(k, m) -> (k, N): adapters that are not searched have weight 0."""
        rows = np.zeros((len(points), len(self._names)))
        rows[:, list(self.searched)] = points
        return rows


def baseline_count(adapters: int) -> int:
    """Points scored before anything is searched: base, uniform and each adapter; uniform of one adapter is itself."""
    return adapters + 2 if adapters > 1 else 2


def check_budget(budget: int, adapters: int) -> None:
    """`SearchError` with the smallest budget that works: base, uniform and each adapter, also of one."""
    needed = adapters + 2
    if budget < needed:
        singles = "the single adapter" if adapters == 1 else f"{adapters} single adapters"
        raise SearchError(
            f"a budget of {budget} is too small: base, uniform and {singles} come first",
            remedy=f"use --budget {needed} or more",
        )


def searched_count(adapters: int, budget: int) -> int:
    """The largest m <= N with 2 (m + 1) <= what is left after the baselines: Cobyla's first simplex in m dimensions
    takes m + 1 evaluations, and as many again are wanted to make use of it."""
    return max(0, min(adapters, (budget - baseline_count(adapters)) // 2 - 1))
