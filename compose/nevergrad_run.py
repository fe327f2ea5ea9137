"""A search by one of nevergrad's optimizers: what is there is scored first, then it goes on from the best of that.

Why so (measured; 13 targets, 12 adapters, 40 evaluations): w = 0 is a stationary point of an element-wise mix, and
single adapters are the best points known for their price. Started from the best of them Cobyla reached a median
objective of 0.65, the reference's NGOpt from 0 1.09.

Cobyla first looks along one weight after the other, so the adapters are given to it best first, and its first step is
FIRST_STEP: chosen on draws 0 and 1 of the shipped demo's tasks, then seen on draws 2 to 4 (48 cells): exact match from
0.29 to 0.45. Used through `compose.search.search`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .baselines import baseline_count, check_budget, score_baselines
from .judged_run import JudgedRun
from .trials import Ledger, Trial

FIRST_STEP = 0.75
"""In weight; the single adapters were scored at 1. Half the range where that is less."""


class NevergradRun(JudgedRun):
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
        super().__init__(names, ledger, seed=seed)
        check_budget(ledger.budget, len(names))
        self.optimizer = optimizer
        self._workers, self._bounds = workers, bounds

    def run(self) -> None:
        self._choose_searched(score_baselines(self._ledger, len(self._names)))
        if self.searched and self._ledger.left:
            self._ask_and_tell()

    def _search_all(self) -> None:
        self._choose_searched(self._singles())

    def _choose_searched(self, singles: Sequence[Trial]) -> None:
        count = len(self._names)
        m = searched_count(count, self._for_whole_adapters())
        best_first = sorted(range(count), key=lambda i: (singles[i].objective, i))
        self.searched = self._ledger.searched = tuple(best_first[:m])
        if m < count:
            self.notes.append(self._small_budget_note())

    def _for_whole_adapters(self) -> int:
        """Evaluations, baselines included."""
        return self._ledger.budget

    def _enough(self) -> int:
        """A budget that searches all adapters."""
        return baseline_count(len(self._names)) + 2 * (len(self._names) + 1)

    def _small_budget_note(self) -> str:
        count, enough = len(self._names), self._enough()
        if not self.searched:
            whom = "its weight" if count == 1 else f"the weights of all {count} adapters"
            return f"The baselines leave too little of the budget to search a mix; --budget {enough} searches {whom}."
        what = ", ".join(self._names[i] for i in self.searched)
        lets = f"The budget lets {len(self.searched)} of {count} adapters be searched ({what})"
        return f"{lets}; --budget {enough} searches all."

    def _ask_and_tell(self) -> None:
        finished = ask_and_tell(
            self._ledger, self.optimizer, best_first=self.searched, bounds=self._bounds, seed=self._seed,
            workers=self._workers,
        )  # fmt: skip
        if finished:
            self.notes.append(f"{self.optimizer} had nothing new to ask after {len(self._ledger.trials)} trials.")


def ask_and_tell(
    ledger: Ledger,
    optimizer: str,
    *,
    best_first: Sequence[int],
    bounds: tuple[float, float],
    seed: int,
    workers: int = 1,
    leave: int = 0,
    start_at: Trial | None = None,
    first_step: float = FIRST_STEP,
) -> bool:
    """Use up the budget but for `leave` evaluations on the weights at `best_first`, from `start_at` or else the best
    baseline that they can express; the others stay. True when the optimizer had nothing new to ask before that."""
    from .nevergrad_search import Asker  # a slow import, and not needed to read results

    baselines = [trial for trial in ledger.trials if trial.kind in ("base", "uniform", "single")]
    start = np.array((start_at or _best_expressible(baselines, best_first)).weights)
    asker = Asker(
        optimizer,
        start=np.clip(start[list(best_first)], *bounds).tolist(),
        bounds=bounds,
        budget=ledger.left - leave + 1,  # the start is scored already
        workers=workers,
        seed=seed,
        first_step=min(first_step, (bounds[1] - bounds[0]) / 2),
    )
    asks = 0
    with asker:
        while ledger.left > leave:
            points = asker.ask(min(workers, ledger.left - leave))
            asks += len(points)
            if asker.finished or asks > 4 * ledger.budget:
                return True
            rows = np.tile(start, (len(points), 1))
            rows[:, list(best_first)] = points
            trials = ledger.score(rows, ["ask"] * len(points))
            asker.tell([trial.objective for trial in trials])
    return False


def _best_expressible(trials: Sequence[Trial], searched: Sequence[int]) -> Trial:
    def expressible(trial: Trial) -> bool:
        return all(weight == 0 or i in searched for i, weight in enumerate(trial.weights))

    return min(filter(expressible, trials), key=lambda trial: (trial.objective, trial.number))


def searched_count(adapters: int, budget: int) -> int:
    """The largest m <= N with 2 (m + 1) <= what is left after the baselines: Cobyla's first simplex in m dimensions
    takes m + 1 evaluations, and as many again are wanted to make use of it."""
    return max(0, min(adapters, (budget - baseline_count(adapters)) // 2 - 1))
