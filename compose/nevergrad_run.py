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
from typing import TYPE_CHECKING

import numpy as np

from .baselines import baseline_count, check_budget, score_baselines
from .errors import SearchError
from .judged_run import FOLDS, Floats, JudgedRun, chosen_on, losses_of, rests_of
from .space import Space
from .trials import Ledger, Trial

if TYPE_CHECKING:
    from .method_space import MethodSpace

FIRST_STEP = 0.75
"""In weight; the single adapters were scored at 1. Half the range where that is less."""
AVERAGE_COST = 1 + FOLDS
"""Evaluations for the mean of several searches: itself, and the means without each fold."""
AVERAGE = "the mean of {} searches"


class NevergradRun(JudgedRun):
    """Baselines first, then an optimizer over the best single adapters from the best point so far.

    With several `seeds` as many searches share the budget, each from the next best baseline, and the mean of the best
    weights of each is scored as one more mix (an exact merge is linear in them).
    """

    def __init__(
        self,
        names: tuple[str, ...],
        ledger: Ledger,
        *,
        seed: int,
        workers: int,
        optimizer: str,
        space: Space,
        seeds: int = 1,
        gated: bool = True,
        top: int = 0,
    ) -> None:
        super().__init__(names, ledger, seed=seed, groups=space.groups, gated=gated, top=top)
        check_budget(ledger.budget, len(names))
        self.optimizer = optimizer
        self._workers, self._space, self._seeds = workers, space, seeds
        self._methods: MethodSpace | None = None

    def run(self) -> None:
        singles = score_baselines(self._ledger, len(self._names))
        self._choose_searched(singles)
        self._top_mix.score(self._ledger, singles)
        found = self._search_each() if self.searched and self._ledger.left else []
        if len(found) > 1:
            self._judge_asks(*self._averaged(found))
        else:
            self._judge_asks()

    def _search_all(self) -> None:
        self._choose_searched(self._singles())

    def _choose_searched(self, singles: Sequence[Trial]) -> None:
        count = len(self._names)
        m = searched_count(count, self._for_whole_adapters(), seeds=self._seeds)
        best_first = sorted(range(count), key=lambda i: (singles[i].objective, i))
        self.searched = self._ledger.searched = tuple(best_first[:m])
        if m < count:
            self.notes.append(self._small_budget_note())

    def _for_whole_adapters(self) -> int:
        """Evaluations, baselines included."""
        return self._ledger.budget

    def _enough(self) -> int:
        """A budget that searches all adapters."""
        return budget_for(len(self._names), len(self._names), seeds=self._seeds)

    def _small_budget_note(self) -> str:
        count, enough = len(self._names), self._enough()
        if not self.searched:
            whom = "its weight" if count == 1 else f"the weights of all {count} adapters"
            return f"The baselines leave too little of the budget to search a mix; --budget {enough} searches {whom}."
        what = ", ".join(self._names[i] for i in self.searched)
        lets = f"The budget lets {len(self.searched)} of {count} adapters be searched ({what})"
        return f"{lets}; --budget {enough} searches all."

    def _search_each(self) -> list[list[Trial]]:
        """One search per seed; for each its start and what it asked for."""
        ledger, found = self._ledger, []
        starts = self._starts()
        for number in range(self._seeds):
            start, before = starts[number % len(starts)], len(ledger.trials)
            later = self._seeds - number - 1
            spare = AVERAGE_COST if self._seeds > 1 else 0
            finished = ask_and_tell(
                ledger, self.optimizer, best_first=self.searched, space=self._space, workers=self._workers,
                seed=(self._seed + number) % 2**32, start=start,
                leave=spare + later * max(0, ledger.left - spare) // (later + 1), methods=self._methods,
            )  # fmt: skip
            found.append([start, *ledger.trials[before:]])
            if finished:
                asked = len(ledger.trials) if self._seeds == 1 else len(ledger.trials) - before
                self.notes.append(f"{self.optimizer} had nothing new to ask after {asked} trials.")
        return found

    def _starts(self) -> list[Trial]:
        return starting_points(self._ledger, self.searched, self._space)

    def _averaged(self, found: Sequence[Sequence[Trial]]) -> tuple[dict[str, Trial], dict[str, Floats]]:
        """The mean of the best of each search, and its losses on examples that those were not chosen by."""
        name = AVERAGE.format(len(found))
        best = np.array([self._best(trials).weights for trials in found])
        [mean] = self._ledger.score(best.mean(axis=0)[None], ["mean"])
        folds = self._folds()
        if len(folds) < 2 or mean.loss > self.baselines.lowest_loss:
            return {}, {}
        again = [[chosen_on(rest, trials).weights for trials in found] for rest in rests_of(folds)]
        trials = self._ledger.score(np.array(again).mean(axis=1), ["fold"] * len(folds))
        losses = np.empty(sum(len(part) for part in folds))
        for part, trial in zip(folds, trials, strict=True):
            losses[part] = losses_of(trial)[part]
        return {name: mean}, {name: losses}


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
    first_step: float = FIRST_STEP,
    methods: MethodSpace | None = None,
) -> bool:
    """Use up the budget but for `leave` evaluations on the weights at `best_first`, from the trial `start`, by default
    the best baseline that they can express; the others stay. What is asked for is scored at the nearest point of
    `space`. With `methods` on the method and its options as well. True when the optimizer had nothing new to ask before
    that."""
    from .nevergrad_search import Asker  # a slow import, and not needed to read results

    free, bounds = list(best_first), space.bounds
    weights = np.array((start or starting_points(ledger, free, space)[0]).weights)
    left = ledger.left - leave
    asker = Asker(
        optimizer,
        start=np.clip(weights[free], *bounds).tolist(),
        bounds=bounds,
        # the start is scored already; and so is what differs only in options that its method does not have
        budget=left + 1 if methods is None or methods.settled else 2 * left,
        workers=workers,
        seed=seed,
        first_step=min(first_step, (bounds[1] - bounds[0]) / 2),
        methods=methods,
    )
    asks = 0
    with asker:
        while ledger.left > leave:
            points = asker.ask(min(workers, ledger.left - leave))
            asks += len(points)
            if asker.finished or asks > 4 * ledger.budget:
                return True
            rows = np.tile(weights, (len(points), 1))
            rows[:, free] = points[:, : len(free)]
            ways = points[:, len(free) :]  # how they are mixed, where that is searched
            rows = np.hstack([space.projected(rows, free=free), ways])
            trials = ledger.score(rows, ["ask"] * len(points))
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


def searched_count(adapters: int, budget: int, *, seeds: int = 1) -> int:
    """The largest m <= N with 2 (m + 1) <= what is left for one search after the baselines: Cobyla's first simplex in m
    dimensions takes m + 1 evaluations, and as many again are wanted to make use of it."""
    left = budget - baseline_count(adapters) - (AVERAGE_COST if seeds > 1 else 0)
    return max(0, min(adapters, left // seeds // 2 - 1))


def budget_for(adapters: int, searched: int, *, seeds: int = 1) -> int:
    """The smallest budget that lets so many of the adapters be searched."""
    return baseline_count(adapters) + (AVERAGE_COST if seeds > 1 else 0) + seeds * 2 * (searched + 1)


def check_seeds(seeds: int, adapters: int, budget: int, *, method: str) -> None:
    """`SearchError` where several searches cannot be averaged, or not within the budget."""
    if seeds == 1:
        return
    if method != "exact":
        raise SearchError(
            f"the method {method} is not linear in the weights, so that the mean of what {seeds} searches find is "
            "no mix of them",
            remedy="--method exact, or leave --seeds out",
        )
    if budget < (needed := budget_for(adapters, 1, seeds=seeds)):
        raise SearchError(
            f"a budget of {budget} is too small for {seeds} searches of {adapters} adapters",
            remedy=f"use --budget {needed} or more, or fewer --seeds",
        )
