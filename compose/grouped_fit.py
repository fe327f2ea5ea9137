"""The fit with a weight per adapter and group of modules: whole adapters first, then the groups of those that matter.

Half of what the baselines leave of the budget goes to the fit that there is without groups (`tied_ledger.py`). From the
best mix that it found on, the weights are told apart by groups: the mix is scored without one group of one adapter, for
the heaviest adapters; what that changes is the group's slope at the mix. The fit goes on with all weights, and is a
finalist of the gate of its own. So the cost does not grow with adapters that have no weight, and the mix of whole
adapters is among what is chosen from.

Why so (the demo's 16 tasks, 15 adapters, 16 examples, exact merge; mean loss on 60 test strings, with the prior of an
earlier state of the fit). Draw 0, where the way was chosen, 80 evaluations: 0.30 without groups, 0.27 with layers:4 in
this way, and 2.13 with layers:4 and slopes from every adapter scored in parts, at N (G - 1) evaluations. Draws 1 and 2:
0.52 without groups, 0.40 with layers:2 and with layers:4; with 40 evaluations 0.53 without and 0.99 with layers:2, as
too few are left for either. Cobyla by groups did not pay (draw 0: 0.16 without, 0.22 with layers:2 in this way).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .baselines import baseline_count
from .errors import SearchError
from .fitted_run import BEST, PRIOR, FittedRun
from .judged_run import losses_of
from .margin_model import MarginModel
from .prior import Prior
from .space import Space
from .tied_ledger import TiedLedger
from .trials import Ledger, Trial

GROUPED = "the mix by groups"
WHOLE = 10
"""Evaluations that the fit of whole adapters takes at least: two fits, and four folds of both."""
STEPS = 4
"""Evaluations that are kept for the steps of the fit by groups."""
FOLDED = 4
"""The same for its folds."""


def check_group_budget(budget: int, adapters: int, groups: int) -> None:
    """`SearchError` where the fit could not look at the groups of even one adapter."""
    needed = baseline_count(adapters) + 2 * (max(WHOLE, groups + STEPS + FOLDED) + BEST.evaluations(adapters))
    if groups > 1 and budget < needed:
        raise SearchError(
            f"a budget of {budget} is too small to fit weights for {groups} groups of {adapters} adapters",
            remedy=f"use --budget {needed} or more, or leave --groups out",
        )


def first_half(budget: int, adapters: int) -> int:
    """What whole adapters may use of the budget, baselines included."""
    baselines = min(budget, baseline_count(adapters))
    return baselines + (budget - baselines + 1) // 2


def heaviest(mix: Trial, groups: int, count: int) -> list[int]:
    """At most `count` adapters that have a weight in a mix of whole adapters, the heaviest first."""
    weights = np.array(mix.weights[::groups])
    order = np.argsort(-np.abs(weights), kind="stable")
    return [int(i) for i in order if weights[i] != 0][: max(0, count)]


def columns_of(adapters: list[int], groups: int) -> list[int]:
    """Where in a row the weights of these adapters are, all groups of the first, then those of the second."""
    return [adapter * groups + group for adapter in adapters for group in range(groups)]


class GroupedFit(FittedRun):
    """The fit of whole adapters, probes of the groups, the fit of all weights and its folds, one gate over all."""

    def __init__(
        self,
        names: tuple[str, ...],
        ledger: Ledger,
        *,
        seed: int,
        space: Space,
    ) -> None:
        super().__init__(names, ledger, seed=seed, space=space)
        check_group_budget(ledger.budget, len(names), space.groups)
        self._tied = TiedLedger(ledger, space.groups, budget=first_half(ledger.budget, len(names)))
        self._whole = FittedRun(names, self._tied, seed=seed, space=space.of_whole_adapters)

    def run(self) -> None:
        whole = self._whole
        whole.run()
        self._search_all()
        folds = self._folds()
        cost = len(folds) if len(folds) > 1 else 0
        last = cost + BEST.evaluations(len(self._names))
        best = self._fittest([trial for trial in self._ledger.trials if any(trial.weights)], PRIOR)
        probed = heaviest(best, self._groups, (self._ledger.left - last - STEPS) // self._groups)
        self.notes += [note for note in whole.notes if whole.gate is None or note != whole.gate.sentence]
        slopes = self._by_groups(best, probed)
        model = self._settle(slopes, PRIOR, self._ledger.left - last)
        assert model is not None  # it may not give up
        if cost and whole.mixes:
            found = self._fittest(self._ledger.trials, PRIOR)
            self.mixes = {name: self._tied.untied(mix) for name, mix in whole.mixes.items()} | {GROUPED: found}
            self.held_out = {**whole.held_out, GROUPED: self._refitted(model, PRIOR, folds)}
            if whole.hopeful:  # it goes on from a mix that was found with all examples in view
                self.hopeful = whole.hopeful | {GROUPED: max(whole.hopeful.values())}
            self._decide(folds)

    def _fittest(self, trials: Sequence[Trial], prior: Prior) -> Trial:
        """A mix without one of its groups does not add up to what it should."""
        kept = [trial for trial in trials if not (self._space.simplex and trial.kind == "part")]
        return super()._fittest(kept, prior)

    def _by_groups(self, best: Trial, probed: list[int]) -> MarginModel:
        """The model at the mix `best`, corrected by what it scores without one group of one of the `probed` adapters.
        The groups of the others share their adapter's slope evenly."""
        known = self._whole.model
        assert known is not None  # it was run
        row = np.array(best.weights)
        slopes = np.repeat(known.slopes / self._groups, self._groups, axis=0)
        model = MarginModel(row, known.margins, slopes).moved(row, losses_of(best))
        columns = columns_of(probed, self._groups)
        rows = np.repeat(row[None], len(columns), axis=0)
        rows[np.arange(len(columns)), columns] = 0.0
        for trial in self._ledger.score(rows, ["part"] * len(rows)):
            model = model.corrected(np.array(trial.weights), losses_of(trial))
        return model
