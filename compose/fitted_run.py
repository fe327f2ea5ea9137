"""The default search: fit the weights to what the single adapters score on each example, score the fit, correct, refit.

Base, uniform and the single adapters are scored first. `margin_model.py` predicts from them what any mix scores on each
example; the weights that it likes best, held near the uniform mix by a prior and averaged over resamples of the
examples, are scored for real, the model is corrected, and so on until nothing moves or the budget is used. Part of the
budget is kept for the estimate on held-out examples that decides whether the mix is kept at all (`gate.py`).

Where adapters act on each other so much that the first fit is far off, Cobyla takes over (`nevergrad_run.py`).

Why so: tests/benchmarks/results/bench_quality_minilm.md. Used through `compose.search.search`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .baselines import check_budget, score_baselines
from .judged_run import UNIFORM, Floats, Indices, JudgedRun, losses_of, rests_of
from .margin_model import MarginModel
from .nevergrad_run import ask_and_tell
from .space import Space
from .trials import Kind, Ledger, Trial

STRENGTH = 1.0
"""Of the prior, in nats per squared distance to the uniform mix: so much must the examples say for a weight of 1."""
TOP = 5
"""Adapters in the uniform mix of the best that the found mix is compared with."""
TOP_NAME = f"the uniform mix of the {TOP} best"
SETTLED = 0.01
"""The search ends when no weight wants to move further."""
DIGITS = 3
"""Of a weight that is asked for: more than are known, few enough to read."""
SURPRISE, TRUSTED = 0.25, 0.5
"""The model is given up when the first fit is this much worse than predicted (nats per example), and has less than this
share of the gain that was promised."""


class FittedRun(JudgedRun):
    """Baselines, fits, folds, gate."""

    optimizer = "fit"

    def __init__(self, names: tuple[str, ...], ledger: Ledger, *, seed: int, bounds: tuple[float, float]) -> None:
        super().__init__(names, ledger, seed=seed)
        check_budget(ledger.budget, len(names))
        self._space = Space(len(names), bounds)
        self._moving = len(names)

    def run(self) -> None:
        score_baselines(self._ledger, len(self._names))
        self._search_all()
        if not self._ledger.left:
            self.notes.append(f"The baselines leave no budget for a mix; --budget {self._ledger.budget + 20} searches.")
            return
        model = self._settle(self._first_model())
        if model is None:
            order = sorted(range(len(self._names)), key=lambda i: (self._singles()[i].objective, i))
            most = max(1, min(len(order), self._ledger.left // 2 - 1))  # as in `searched_count`
            ask_and_tell(self._ledger, "Cobyla", best_first=order[:most], bounds=self._space.bounds, seed=self._seed)
            self._judge_asks()
        elif self._ledger.left >= self._estimate_cost():
            self._judge_fit(model)
        else:
            self.notes.append("The budget leaves nothing for held-out examples, so that the few-shot loss decides.")

    def _first_model(self) -> MarginModel:
        base, uniform = self.baselines.base, self.baselines.uniform
        model = MarginModel.of_singles(losses_of(base), np.array([losses_of(trial) for trial in self._singles()]))
        model = model.corrected(np.array(uniform.weights), losses_of(uniform))
        best = self._best(self._ledger.trials)
        return model.moved(np.array(best.weights), losses_of(best))

    def _settle(self, model: MarginModel) -> MarginModel | None:
        """Fit, score, correct. After a fit that disappoints fewer weights may move at once, after another one more:
        what goes wrong is found out one weight at a time. None: the model is of no use here."""
        best = min(trial.objective for trial in self._ledger.trials)
        reserve = self._estimate_cost() if self._ledger.left > self._estimate_cost() else 0
        first = True
        while self._ledger.left > reserve:
            weights = self._fit(model)
            if np.abs(weights - model.at).max() < SETTLED or self._ledger.find(weights + 0.0) is not None:
                break
            [trial] = self._ledger.score(weights[None], ["ask"])
            if first and _of_no_use(model, trial):
                return None
            first = False
            model = model.corrected(weights, losses_of(trial))
            if trial.objective < best:
                best, model = trial.objective, model.moved(weights, losses_of(trial))
                self._moving = min(len(self._names), 2 * self._moving)
            else:
                self._moving = max(1, self._moving // 4)
        return model

    def _fit(self, model: MarginModel) -> Floats:
        fitted = model.averaged_fit(self._space, strength=STRENGTH, seed=self._seed, moving=self._moving)
        return np.round(fitted, DIGITS)

    def _estimate_cost(self) -> int:
        """Evaluations of the estimate at most: fold mixes and, where there are more adapters, the mixes of the best."""
        folds = len(self._folds())
        if folds < 2:
            return 0
        return folds + (folds + 1 if self._has_top else 0)

    @property
    def _has_top(self) -> bool:
        return len(self._names) > TOP

    def _judge_fit(self, model: MarginModel) -> None:
        """A new fit without each fold, all scored as one batch, and the gate over their held-out losses."""
        folds = self._folds()
        if len(folds) < 2 or not self._asks():
            return
        rests = rests_of(folds)
        rows = [self._fit(model.of_examples(rest)) for rest in rests]
        kinds: list[Kind] = ["fold"] * len(folds)
        if self._has_top:
            rows += [self._top(rest) for rest in (*rests, np.concatenate(folds))]
            kinds += [*kinds, "top"]
        trials = self._ledger.score(np.array(rows), kinds)
        found = _held_out(folds, trials)
        if self._has_top:
            *tops, top = trials[len(folds) :]
            self._judge(folds, found, {TOP_NAME: top}, {TOP_NAME: _held_out(folds, tops)})
        else:
            self._judge(folds, found, {UNIFORM: self.baselines.uniform}, {UNIFORM: losses_of(self.baselines.uniform)})

    def _top(self, examples: Indices) -> Floats:
        """(N,): equal weights of the `TOP` adapters that are best on `examples`."""
        means = np.array([losses_of(trial)[examples].mean() for trial in self._singles()])
        row = np.zeros(len(self._names))
        row[np.argsort(means, kind="stable")[:TOP]] = 1 / TOP
        return row


def _of_no_use(model: MarginModel, trial: Trial) -> bool:
    """Is the mix far worse than predicted, and most of the promised gain missing?"""
    expected, start = (float(model.predicted(w).mean()) for w in (np.array(trial.weights), model.at))
    return trial.loss - expected > SURPRISE and start - trial.loss < TRUSTED * (start - expected)


def _held_out(folds: Sequence[Indices], trials: Sequence[Trial]) -> Floats:
    """(E,) each fold's losses by its own trial."""
    losses = np.empty(sum(len(part) for part in folds))
    for part, trial in zip(folds, trials, strict=False):
        losses[part] = losses_of(trial)[part]
    return losses
