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
from .errors import SearchError
from .judged_run import JudgedRun
from .space import Space
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
        space: Space,
        gated: bool = True,
        top: int = 0,
    ) -> None:
        super().__init__(names, ledger, seed=seed, groups=space.groups, gated=gated, top=top)
        check_budget(ledger.budget, len(names))
        self.optimizer = optimizer
        self._workers, self._space = workers, space

    def run(self) -> None:
        singles = score_baselines(self._ledger, len(self._names))
        self._choose_searched(singles)
        self._top_mix.score(self._ledger, singles)
        if self.searched and self._ledger.left:
            self._search()
        self._judge_asks()

    def _search_all(self) -> None:
        self._choose_searched(self._singles())

    def _choose_searched(self, singles: Sequence[Trial]) -> None:
        count = len(self._names)
        m = searched_count(count, self._ledger.budget)
        best_first = sorted(range(count), key=lambda i: (singles[i].objective, i))
        self.searched = self._ledger.searched = tuple(best_first[:m])
        if m < count:
            self.notes.append(self._small_budget_note())

    def _small_budget_note(self) -> str:
        count = len(self._names)
        enough = budget_for(count, count)
        if not self.searched:
            whom = "its weight" if count == 1 else f"the weights of all {count} adapters"
            return f"The baselines leave too little of the budget to search a mix; --budget {enough} searches {whom}."
        what = ", ".join(self._names[i] for i in self.searched)
        lets = f"The budget lets {len(self.searched)} of {count} adapters be searched ({what})"
        return f"{lets}; --budget {enough} searches all."

    def _search(self) -> None:
        finished = ask_and_tell(
            self._ledger, self.optimizer, best_first=self.searched, space=self._space, workers=self._workers,
            seed=self._seed, start=starting_points(self._ledger, self.searched, self._space)[0],
        )  # fmt: skip
        if finished:
            self.notes.append(f"{self.optimizer} had nothing new to ask after {len(self._ledger.trials)} trials.")


def ask_and_tell(
    ledger: Ledger,
    optimizer: str,
    *,
    best_first: Sequence[int],
    space: Space,
    seed: int,
    workers: int = 1,
    leave: int = 0,
    start: Trial | None = None,
) -> bool:
    """Use up the budget but for `leave` evaluations on the weights at `best_first`, from the trial `start`, by default
    the best baseline that they can express; the others stay. What is asked for is scored at the nearest point of
    `space`. True when the optimizer had nothing new to ask before that."""
    from .nevergrad_search import Asker  # a slow import, and not needed to read results

    free, bounds = list(best_first), space.bounds
    weights = np.array((start or starting_points(ledger, free, space)[0]).weights)
    asker = Asker(
        optimizer,
        start=np.clip(weights[free], *bounds).tolist(),
        bounds=bounds,
        budget=ledger.left - leave + 1,  # the start is scored already
        workers=workers,
        seed=seed,
        first_step=min(FIRST_STEP, (bounds[1] - bounds[0]) / 2),
    )
    asks = 0
    with asker:
        while ledger.left > leave:
            points = asker.ask(min(workers, ledger.left - leave))
            asks += len(points)
            if asker.finished or asks > 4 * ledger.budget:
                return True
            rows = np.tile(weights, (len(points), 1))
            rows[:, free] = points
            trials = ledger.score(space.projected(rows, free=free), ["ask"] * len(points))
            asker.tell([trial.objective for trial in trials])
    return False


def starting_points(ledger: Ledger, searched: Sequence[int], space: Space) -> list[Trial]:
    """The baselines in which only the adapters `searched` have a weight, best first; where that is asked for, of those
    whose weights add up to what they should, if there are any."""

    def expressible(trial: Trial) -> bool:
        return all(weight == 0 or i in searched for i, weight in enumerate(trial.weights))

    baselines = [trial for trial in ledger.trials if trial.kind in ("base", "uniform", "single")]
    found = sorted(filter(expressible, baselines), key=lambda trial: (trial.objective, trial.number))
    return [trial for trial in found if space.contains_sums(trial.weights)] or found


def searched_count(adapters: int, budget: int) -> int:
    """The largest m <= N with 2 (m + 1) <= what is left for the search after the baselines: Cobyla's first simplex in m
    dimensions takes m + 1 evaluations, and as many again are wanted to make use of it."""
    return max(0, min(adapters, (budget - baseline_count(adapters)) // 2 - 1))


def budget_for(adapters: int, searched: int) -> int:
    """The smallest budget that lets so many of the adapters be searched."""
    return baseline_count(adapters) + 2 * (searched + 1)


def check_reach(space: Space, budget: int) -> None:
    """`SearchError` where the optimizer could not move enough adapters for their weights to reach the sum."""
    adapters, searched = space.adapters, searched_count(space.adapters, budget)
    if not 0 < searched < space.fewest:
        return
    raise SearchError(
        f"a budget of {budget} lets {searched} of {adapters} adapters be searched, whose weights cannot add up to "
        f"{space.scale[0]:g}",
        remedy=f"use --budget {budget_for(adapters, space.fewest)} or more, or lower --scale",
    )
