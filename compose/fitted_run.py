"""The default search: fit the weights to what the single adapters score on each example, score the fit, correct, refit.

Base, uniform and the single adapters are scored first. `margin_model.py` predicts from them what any mix scores on each
example; the weights that it likes best, held near the uniform mix by a prior and averaged over resamples of the
examples, are scored for real, the model is corrected, and so on until nothing moves or the budget is used. Part of the
budget is kept for the estimate on held-out examples that decides whether the mix is kept at all (`gate.py`).

Where adapters act on each other so much that the first fit is far off, Cobyla takes over (`nevergrad_run.py`).

Why so: tests/benchmarks/results/bench_quality_fit.md. Used through `compose.search.search`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .baselines import check_budget, score_baselines
from .judged_run import Floats, Indices, JudgedRun, losses_of, rests_of
from .margin_model import MarginModel
from .nevergrad_run import ask_and_tell
from .prior import Prior
from .space import Space
from .top_mix import TOP, TopMix
from .trials import Ledger, Trial

PRIOR, CAUTIOUS_PRIOR = Prior(strength=2.0, total=3.5, total_strength=1.0), Prior(strength=8.0)
"""Of the bold mix and of the cautious one."""
CAUTIOUS_STEPS = 6
"""Evaluations of the cautious fit at most. It moves less, so that it settles sooner."""
BOLD, CAUTIOUS = "the bold mix", "the cautious mix"
BEST = TopMix(TOP)
"""What the found mix is compared with besides. It is predicted, and scored only where it is what the gate keeps."""
SETTLED = 0.01
"""The search ends when no weight wants to move further."""
DIGITS = 3
"""Of a weight that is asked for: more than are known, few enough to read."""
SURPRISE, TRUSTED = 0.25, 0.5
"""The model is given up when the first fit is this much worse than predicted (nats per example), and has less than this
share of the gain that was promised."""


class FittedRun(JudgedRun):
    """Baselines, a cautious and a bold fit, the folds of both, gate."""

    optimizer = "fit"

    def __init__(
        self,
        names: tuple[str, ...],
        ledger: Ledger,
        *,
        seed: int,
        space: Space,
    ) -> None:
        super().__init__(names, ledger, seed=seed, groups=space.groups)
        check_budget(ledger.budget, len(names))
        self._space, self._moving = space, space.size
        self.mixes: dict[str, Trial] = {}
        self.held_out: dict[str, Floats] = {}
        self.hopeful: dict[str, int] = {}
        self.model: MarginModel | None = None
        """As it was last, for a search that goes on from here (`grouped_fit.py`); so are the mixes above."""

    def run(self) -> None:
        score_baselines(self._ledger, len(self._names))
        self._search_all()
        if not self._ledger.left:
            self.notes.append(f"The baselines leave no budget for a mix; --budget {self._ledger.budget + 20} searches.")
            return
        folds = self._folds()
        cost = len(folds) if len(folds) > 1 else 0
        top = BEST.evaluations(len(self._names)) if cost else 0
        if cost and self._ledger.left < cost + 1 + top:
            self._settle(self._first_model(), PRIOR, self._ledger.left)
            self._judge_asks()
            return
        priors = [(CAUTIOUS, CAUTIOUS_PRIOR), (BOLD, PRIOR)]
        if self._ledger.left < 2 * cost + 2 + top:
            del priors[1:]
        mixes, held_out = self.mixes, self.held_out
        model = self.model = self._first_model()
        for number, (name, prior) in enumerate(priors, start=1):
            before, others = len(self._ledger.trials), len(priors) - number
            steps = self._ledger.left - (1 + others) * cost - others - top
            last = not others
            settled = self._settle(model, prior, steps if last else min(CAUTIOUS_STEPS, steps), give_up=last)
            if settled is None:
                weights = self._descend()
                self.notes.append(
                    f"What the fit promised was far off, so that Cobyla went on, over the weights of {weights} of "
                    f"{len(self._names)} adapters; {name} is what it found."
                )
                asks = [trial for trial in self._ledger.trials[before:] if trial.kind == "ask"]
                mixes[name] = self._best(asks)
                if cost:  # else there is one example only
                    held_out[name], self.hopeful[name] = self._chosen_again(folds, asks), min(weights, len(asks))
                break
            model = self.model = settled
            mixes[name] = self._fittest(self._ledger.trials, prior)
            if cost:
                held_out[name] = self._refitted(model, prior, folds)
        if cost:
            held_out |= self._top_held_out(model, folds)
            self._decide(folds)

    def _decide(self, folds: Sequence[Indices]) -> None:
        self._judge(folds, self.mixes, self.held_out, safe=(CAUTIOUS, BEST.name), hopeful=self.hopeful)
        if self.gate is not None and self.gate.kept == BEST.name:
            [self._kept] = self._ledger.score(self._top(np.concatenate(folds))[None], ["top"])

    def _first_model(self) -> MarginModel:
        base, uniform = self.baselines.base, self.baselines.uniform
        model = MarginModel.of_singles(losses_of(base), np.array([losses_of(trial) for trial in self._singles()]))
        return model.corrected(np.array(uniform.weights), losses_of(uniform))

    def _settle(self, model: MarginModel, prior: Prior, steps: int, *, give_up: bool = False) -> MarginModel | None:
        """Fit, score, correct, `steps` times at most. After a fit that disappoints fewer weights may move at once,
        after another one more: what goes wrong is found out one weight at a time. None: the model is of no use."""
        best = self._fittest(self._ledger.trials, prior)
        model = model.moved(np.array(best.weights), losses_of(best))
        self._moving = self._space.size
        for step in range(steps):
            weights = self._fit(model, prior)
            if np.abs(weights - model.at).max() < SETTLED or self._ledger.find(weights + 0.0) is not None:
                break
            [trial] = self._ledger.score(weights[None], ["ask"])
            if give_up and step == 0 and _of_no_use(model, trial):
                return None
            model = model.corrected(weights, losses_of(trial))
            if self._value(trial, prior) < self._value(best, prior):
                best, model = trial, model.moved(weights, losses_of(trial))
                self._moving = min(self._space.size, 2 * self._moving)
            else:
                self._moving = max(1, self._moving // 4)
        return model

    def _fit(self, model: MarginModel, prior: Prior) -> Floats:
        own = replace(prior, groups=self._groups)
        fitted = model.averaged_fit(self._space, own, seed=self._seed, moving=self._moving)
        return np.round(fitted, DIGITS)

    def _descend(self) -> int:
        """Where the model is of no use: Cobyla, leaving one evaluation; over how many weights."""
        order = sorted(range(len(self._names)), key=lambda i: (self._singles()[i].objective, i))
        most = max(1, self._space.fewest, self._ledger.left // 2 - 1)  # as in `searched_count`
        most = min(len(order), most)
        ask_and_tell(self._ledger, "Cobyla", best_first=order[:most], space=self._space, seed=self._seed, leave=1)
        return most

    def _value(self, trial: Trial, prior: Prior) -> float:
        """The summed loss and the prior's penalty, in nats."""
        penalty = replace(prior, groups=self._groups).penalties(np.array(trial.weights))
        return trial.loss * len(losses_of(trial)) + float(penalty)

    def _fittest(self, trials: Sequence[Trial], prior: Prior) -> Trial:
        return min((t for t in trials if t.kind != "fold"), key=lambda t: (self._value(t, prior), t.number))

    def _refitted(self, model: MarginModel, prior: Prior, folds: Sequence[Indices]) -> Floats:
        """(E,) held-out losses of new fits without each fold, scored as one batch."""
        rows = np.array([self._fit(model.of_examples(rest), prior) for rest in rests_of(folds)])
        trials = self._ledger.score(rows, ["fold"] * len(rows))
        losses = np.empty(sum(len(part) for part in folds))
        for part, trial in zip(folds, trials, strict=True):
            losses[part] = losses_of(trial)[part]
        return losses

    def _top_held_out(self, model: MarginModel, folds: Sequence[Indices]) -> dict[str, Floats]:
        """The losses of the uniform mix of those that are best without each fold, as the model predicts them."""
        if not BEST.evaluations(len(self._names)):
            return {}
        losses = np.empty(sum(len(part) for part in folds))
        for part, rest in zip(folds, rests_of(folds), strict=True):
            losses[part] = model.predicted(self._top(rest))[part]
        return {BEST.name: losses}

    def _top(self, examples: Indices) -> Floats:
        """(N * G,): equal weights of the adapters that are best on `examples`."""
        means = [float(losses_of(trial)[examples].mean()) for trial in self._singles()]
        return np.repeat(BEST.row(means), self._groups)


def _of_no_use(model: MarginModel, trial: Trial) -> bool:
    """Is the mix far worse than predicted, and most of the promised gain missing?"""
    expected, start = (float(model.predicted(w).mean()) for w in (np.array(trial.weights), model.at))
    return trial.loss - expected > SURPRISE and start - trial.loss < TRUSTED * (start - expected)
