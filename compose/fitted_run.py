"""The default search: fit the weights to what the single adapters score on each example, score the fit, correct, refit.

Base, uniform and the single adapters are scored first. `margin_model.py` predicts from them what any mix scores on each
example; the weights that it likes best, held near the uniform mix by a prior and averaged over resamples of the
examples, are scored for real, the model is corrected, and so on until nothing moves or the budget is used. Part of the
budget is kept for the estimate on held-out examples that decides whether the mix is kept at all (`gate.py`).

Why so: see tests/benchmarks/results/bench_quality_minilm.md. Used through `compose.search.search`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .baselines import baselines_of, check_budget, score_baselines, stored_baselines
from .gate import Gate, decide
from .margin_model import MarginModel
from .nevergrad_run import ask_and_tell
from .space import Space
from .trials import Baselines, Ledger, Trial

Floats = NDArray[np.float64]

STRENGTH = 1.0
"""Of the prior, in nats per squared distance to the uniform mix: one example more is worth about that much."""
FOLDS = 4
TRUSTED = 0.5
UP, DOWN = 2, 4
TOP = 5
"""Adapters in the uniform mix of the best that the found mix is compared with."""
SETTLED = 0.01
"""The search ends when no weight wants to move further."""
DIGITS = 3
"""Of a weight that is asked for: more than are known, few enough to read."""
FOUND, BASE, TOP_NAME = "the mix that was found", "base", f"the uniform mix of the {TOP} best"


class FittedRun:
    """Baselines, fits, folds, gate. `gate` is None where the budget or the examples were too few for one."""

    optimizer = "fit"

    def __init__(self, names: tuple[str, ...], ledger: Ledger, *, seed: int, bounds: tuple[float, float]) -> None:
        check_budget(ledger.budget, len(names))
        self.searched: tuple[int, ...] = ()
        self.notes: list[str] = []
        self.gate: Gate | None = None
        self._names, self._ledger, self._seed = names, ledger, seed
        self._space = Space(len(names), bounds)
        self._kept: Trial | None = None
        self._linear = True

    @property
    def baselines(self) -> Baselines:
        """There once anything is: they are scored as one batch."""
        return baselines_of(self._ledger.trials, self._names)

    def run(self) -> None:
        singles = score_baselines(self._ledger, len(self._names))
        self._search_all()
        if not self._ledger.left:
            self.notes.append(f"The baselines leave no budget for a mix; --budget {self._ledger.budget + 20} searches.")
            return
        model, moving = self._settle(self._first_model(singles))
        if not self._linear or self._ledger.left >= self._estimate_cost():
            self._judge(model, moving, singles)
        else:
            self.notes.append("The budget leaves nothing for an estimate on held-out examples: the few-shot loss decides.")

    def run_no_further(self) -> None:
        """Settle on the trials that the ledger holds already: nothing is scored."""
        stored_baselines(self._ledger, len(self._names))
        self._search_all()

    def choose(self) -> Trial:
        """What the gate kept; without one the best of all trials whose few-shot loss no baseline beats."""
        if self._kept is not None:
            return self._kept
        limit = self.baselines.lowest_loss
        fair = [trial for trial in self._ledger.trials if trial.kind != "fold" and trial.loss <= limit]
        return min(fair, key=lambda trial: (trial.objective, trial.number))

    def fell_back(self, chosen: Trial) -> str | None:
        if chosen.kind == "single":
            return self._names[chosen.weights.index(1.0)]
        return None if chosen.kind == "ask" else chosen.kind

    def _search_all(self) -> None:
        self.searched = self._ledger.searched = tuple(range(len(self._names)))

    def _first_model(self, singles: list[Trial]) -> MarginModel:
        base, uniform = self.baselines.base, self.baselines.uniform
        model = MarginModel.of_singles(_losses(base), np.array([_losses(trial) for trial in singles]))
        model = model.corrected(np.array(uniform.weights), _losses(uniform))
        best = min(self._ledger.trials, key=lambda trial: (trial.objective, trial.number))
        return model.moved(np.array(best.weights), _losses(best))

    def _settle(self, model: MarginModel) -> tuple[MarginModel, int]:
        """Fit, score, correct. After a fit that disappoints fewer weights may move at once, after another one more:
        where adapters act on each other, what goes wrong is found out one weight at a time."""
        count = moving = len(self._names)
        best = min(trial.objective for trial in self._ledger.trials)
        reserve = self._estimate_cost()
        reserve = reserve if self._ledger.left > reserve else 0
        gains = losses = 0
        while self._ledger.left > reserve:
            weights = self._fit(model, moving)
            if np.abs(weights - model.at).max() < SETTLED or self._ledger.find(weights + 0.0) is not None:
                break
            [trial] = self._ledger.score(weights[None], ["ask"])
            expected, start = model.predicted(weights).mean(), model.predicted(model.at).mean()
            if not gains and not losses and start - trial.loss < TRUSTED * (start - expected):
                self._descend()
                break
            model = model.corrected(weights, _losses(trial))
            if trial.objective < best:
                best, model, moving = trial.objective, model.moved(weights, _losses(trial)), min(count, int(UP) * moving)
                gains += 1
            else:
                moving = max(1, moving // int(DOWN))
                losses += 1
        return model, moving

    def _descend(self) -> None:
        """The adapters act on each other too much for a linear model: go on without one."""
        self._linear = False
        singles = self._ledger.trials[-len(self._names) :] if False else stored_baselines(self._ledger, len(self._names))
        most = max(1, min(len(self._names), self._ledger.left // 2 - 1))
        order = sorted(range(len(self._names)), key=lambda i: (singles[i].objective, i))
        ask_and_tell(self._ledger, "Cobyla", best_first=order[:most], bounds=self._space.bounds, seed=self._seed)

    def _fit(self, model: MarginModel, moving: int) -> Floats:
        return np.round(model.averaged_fit(self._space, strength=STRENGTH, seed=self._seed, moving=moving), DIGITS)

    def _folds(self) -> list[NDArray[np.int64]]:
        """The examples in `FOLDS` parts, at random."""
        examples = len(_losses(self.baselines.base))
        order = np.random.default_rng(self._seed).permutation(examples)
        return [np.sort(part) for part in np.array_split(order, min(FOLDS, examples))]

    def _estimate_cost(self) -> int:
        """Evaluations of the estimate at most: fold mixes and, where there are more adapters, the mixes of the best."""
        folds = len(self._folds())
        return folds + (folds + 1 if len(self._names) > TOP else 0)

    def _judge(self, model: MarginModel, moving: int, singles: list[Trial]) -> None:
        """Held-out losses of the finalists, and the gate over them."""
        folds = self._folds()
        examples = len(_losses(self.baselines.base))
        asks = [trial for trial in self._ledger.trials if trial.kind == "ask"]
        if len(folds) < 2 or not asks:
            return
        table = np.array([_losses(trial) for trial in singles])
        found, single, top = (np.empty(examples) for _ in range(3))
        everything = np.arange(examples)
        finalists = {FOUND: min(asks, key=lambda t: (t.objective, t.number)), BASE: self.baselines.base}
        rests = [np.setdiff1d(everything, part) for part in folds]
        orders = [np.argsort(table[:, rest].mean(axis=1), kind="stable") for rest in rests]
        has_top = len(self._names) > TOP and self._linear
        if self._linear:
            rows = [self._fit(model.of_examples(rest), moving) for rest in rests]
            rows += [self._top(order) for order in orders] if has_top else []
            trials = self._ledger.score(np.array(rows), ["fold"] * len(rows))  # one batch
        else:
            ll = np.array([_losses(t) for t in asks]); pen = np.array([t.objective - t.loss for t in asks])
            trials = [asks[int(np.argmin(ll[:, rest].mean(1) + pen))] for rest in rests]
        for i, part in enumerate(folds):
            found[part] = _losses(trials[i])[part]
            single[part] = table[orders[i][0], part]
            top[part] = _losses(trials[i - len(folds)])[part]
        held_out = {FOUND: found, BASE: _losses(self.baselines.base), self.baselines.best_single_name: single}
        finalists[self.baselines.best_single_name] = self.baselines.best_single
        if has_top:
            order = np.argsort(table.mean(axis=1), kind="stable")
            [finalists[TOP_NAME]] = self._ledger.score(self._top(order)[None], ["top"])
            held_out[TOP_NAME] = top
        else:
            held_out["uniform"], finalists["uniform"] = _losses(self.baselines.uniform), self.baselines.uniform
        self.gate = decide(FOUND, held_out, folds=len(folds), seed=self._seed)
        self._kept = finalists[self.gate.kept]
        self.notes.append(self.gate.sentence)

    def _top(self, order: NDArray[np.int64]) -> Floats:
        """(N,): equal weights of the first `TOP`."""
        row = np.zeros(len(self._names))
        row[order[:TOP]] = 1 / TOP
        return row


def _losses(trial: Trial) -> Floats:
    return np.array(trial.example_losses)
