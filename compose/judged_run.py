"""What all searches with baselines share: which trial they settle on, and the gate that may refuse a mix.

A search that cannot afford to be repeated without some of the examples has its mixes judged by choosing again: for
each fold the mix that is best on the other examples gives the losses of that fold. Its trials were asked for with all
examples in view, so that this is still somewhat hopeful; the default search makes new fits instead (`fitted_run.py`).
A search by one of nevergrad's optimizers has no gate: the few-shot loss decides, as it always did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .baselines import baselines_of, stored_baselines
from .gate import Gate, decide
from .trials import Baselines, Ledger, Trial

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

FOLDS = 4
VERY_LARGE = 1e3
"""A loss in nats that no model has that works."""
FOUND, BASE, UNIFORM = "the mix that was found", "the base model", "the uniform mix"


class JudgedRun:
    """`gate` is None where there were no examples to hold out, or no mix to judge."""

    optimizer: str

    def __init__(self, names: tuple[str, ...], ledger: Ledger, *, seed: int, groups: int = 1) -> None:
        self.searched: tuple[int, ...] = ()
        self.notes: list[str] = []
        self.gate: Gate | None = None
        self._names, self._ledger, self._seed, self._groups = names, ledger, seed, groups
        self._kept: Trial | None = None

    @property
    def baselines(self) -> Baselines:
        """There once anything is: they are scored as one batch."""
        return baselines_of(self._ledger.trials, self._names)

    def run(self) -> None:
        """Score what is to be scored, then judge it."""
        raise NotImplementedError

    def run_no_further(self) -> None:
        """Settle on the trials that the ledger holds already: nothing is scored."""
        stored_baselines(self._ledger, len(self._names))
        self._search_all()

    def choose(self) -> Trial:
        """What the gate kept; without one the best of all trials whose few-shot loss no baseline beats, or the base
        where that is no gain."""
        if self._kept is not None:
            return self._kept
        limit, base = self.baselines.lowest_loss, self.baselines.base
        best = self._best([t for t in self._ledger.trials if t.kind not in ("fold", "part") and t.loss <= limit])
        return best if best.loss < base.loss else base

    def fell_back(self, chosen: Trial) -> str | None:
        if chosen.kind == "single":
            return self._names[chosen.weights.index(1.0) // self._groups]
        return None if chosen.kind in ("ask", "part") else chosen.kind

    def _search_all(self) -> None:
        self.searched = self._ledger.searched = tuple(range(len(self._names)))

    def _asks(self) -> list[Trial]:
        return [trial for trial in self._ledger.trials if trial.kind == "ask"]

    @staticmethod
    def _best(trials: Sequence[Trial]) -> Trial:
        return min(trials, key=lambda trial: (trial.objective, trial.number))

    def _folds(self) -> list[Indices]:
        """The examples in `FOLDS` parts, at random."""
        if any(trial.example_losses is None for trial in self._ledger.trials):
            return []  # stored before they were kept
        examples = len(losses_of(self.baselines.base))
        order = np.random.default_rng(self._seed).permutation(examples)
        return [np.sort(part) for part in np.array_split(order, min(FOLDS, examples))]

    def _judge_asks(self) -> None:
        """The gate, by choosing again among the trials that there are: no evaluation."""
        asks, folds = self._asks(), self._folds()
        if asks and len(folds) > 1:
            self._judge(folds, {FOUND: self._best(asks)}, {FOUND: self._chosen_again(folds, asks)})

    def _chosen_again(self, folds: Sequence[Indices], asks: Sequence[Trial]) -> Floats:
        """(E,) for each fold the losses of the trial whose objective on the other examples is lowest."""
        losses = np.array([losses_of(trial) for trial in asks])
        penalties = np.array([trial.objective - trial.loss for trial in asks])
        found = np.empty(losses.shape[1])
        for part, rest in zip(folds, rests_of(folds), strict=True):
            found[part] = losses[int(np.argmin(losses[:, rest].mean(axis=1) + penalties))][part]
        return found

    def _judge(
        self,
        folds: Sequence[Indices],
        mixes: Mapping[str, Trial],
        held_out: Mapping[str, Floats],
        *,
        safe: Sequence[str] = (),
    ) -> None:
        """The gate over `mixes`, base, best single and uniform; `held_out` holds the losses of the mixes and of what
        else there is."""
        there = self.baselines
        finalists = {**mixes, BASE: there.base, there.best_single_name: there.best_single, UNIFORM: there.uniform}
        losses = {
            **held_out,
            BASE: losses_of(there.base),
            there.best_single_name: self._single_held_out(folds),
            UNIFORM: losses_of(there.uniform),
        }
        self.gate = decide(tuple(mixes), BASE, losses, safe=(*safe, UNIFORM), folds=len(folds), seed=self._seed)
        self._kept = finalists.get(self.gate.kept)
        self.notes.append(self.gate.sentence)

    def _single_held_out(self, folds: Sequence[Indices]) -> Floats:
        """(E,) for each fold the losses of the single adapter that is best on the other examples."""
        table = np.array([losses_of(trial) for trial in self._singles()])
        losses = np.empty(table.shape[1])
        for part, rest in zip(folds, rests_of(folds), strict=True):
            losses[part] = table[int(np.argmin(table[:, rest].mean(axis=1)))][part]
        return losses

    def _singles(self) -> list[Trial]:
        return stored_baselines(self._ledger, len(self._names))


def rests_of(folds: Sequence[Indices]) -> list[Indices]:
    """For each fold all other examples."""
    everything = np.arange(sum(len(part) for part in folds))
    return [np.setdiff1d(everything, part) for part in folds]


def losses_of(trial: Trial) -> Floats:
    """(E,); what is infinite only counts as very large, so that means can be compared."""
    return np.minimum(np.array(trial.example_losses, dtype=np.float64), VERY_LARGE)
