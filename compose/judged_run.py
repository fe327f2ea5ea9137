"""What all searches with baselines share: which trial they settle on, and the gate that may refuse a mix.

A search that cannot afford to be repeated without some of the examples has its mixes judged by choosing again: for
each fold the mix that is best on the other examples gives the losses of that fold. Its trials were asked for with all
examples in view, so that this is hopeful and must be ahead by more than chance (`gate.py`); the default search makes
new fits instead (`fitted_run.py`). A search that was stopped is judged the same way, by what it has scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .baselines import baselines_of, stored_baselines
from .gate import Gate, decide
from .top_mix import TopMix
from .trials import Baselines, Ledger, Trial

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

FOLDS = 4
VERY_LARGE = 1e3
"""A loss in nats that no model has that works."""
FOUND, BASE, UNIFORM = "the mix that was found", "the base model", "the uniform mix"


class JudgedRun:
    """`gate` is None where there were no examples to hold out, or none was wanted (`gated`).

    `top`: adapters in the uniform mix of the best that is scored beside the baselines; 0: none.
    """

    optimizer: str
    counted = "weight"
    """What a search has several of, in the gate's words."""

    def __init__(
        self,
        names: tuple[str, ...],
        ledger: Ledger,
        *,
        seed: int,
        groups: int = 1,
        gated: bool = True,
        top: int = 0,
    ) -> None:
        self.searched: tuple[int, ...] = ()
        self.notes: list[str] = []
        self.gate: Gate | None = None
        self._names, self._ledger, self._seed, self._groups = names, ledger, seed, groups
        self._gated, self._top_mix = gated, TopMix(top)
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
        self.judge_stored()

    def judge_stored(self) -> None:
        """The gate over the trials that there are, where the search did not come to its own."""
        if self.gate is None:
            self._judge_asks()

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
        return folds_of(len(losses_of(self.baselines.base)), self._seed)

    def _judge_asks(self) -> None:
        """The gate, by choosing again among the trials that there are: no evaluation."""
        if not self._gated:
            return
        asks, folds = self._asks(), self._folds()
        if len(folds) < 2:
            self.notes.append(f"{self._why_no_folds()}, so that the few-shot loss decides.")
            return
        found: dict[str, Trial] = {}
        losses: dict[str, Floats] = {}
        allowed = [trial for trial in asks if trial.loss <= self.baselines.lowest_loss]
        if allowed:
            found[FOUND], losses[FOUND] = self._best(allowed), chosen_again(folds, asks)
        numbers = max(1, min(self._numbers(), len(asks)))
        simple = self._add_top(folds, losses)
        self._judge(
            folds, found, losses, safe=tuple(simple), hopeful=dict.fromkeys(found, numbers), simple=simple
        )  # fmt: skip

    def _numbers(self) -> int:
        """How many the search chooses, for how much it finds by chance."""
        return len(self.searched) * self._groups

    def _add_top(self, folds: Sequence[Indices], losses: dict[str, Floats]) -> dict[str, Trial]:
        """The uniform mix of the best adapters, where it was scored; its held-out losses go into `losses`."""
        top, base = self._top_mix.scored(self._ledger), self.baselines.base
        if top is None or top.loss > base.loss:
            return {}
        singles = np.array([losses_of(trial) for trial in self._singles()])
        scored = np.array(top.weights[:: self._groups]), losses_of(top)
        losses[self._top_mix.name] = self._top_mix.held_out(losses_of(base), singles, scored, folds, rests_of(folds))
        return {self._top_mix.name: top}

    def _why_no_folds(self) -> str:
        if any(trial.example_losses is None for trial in self._ledger.trials):
            return "The trials were stored without the losses of single examples"
        return "There is one example only, and none can be held out"

    def _chosen_again(self, folds: Sequence[Indices], asks: Sequence[Trial]) -> Floats:
        return chosen_again(folds, asks)

    def _judge(
        self,
        folds: Sequence[Indices],
        mixes: Mapping[str, Trial],
        held_out: Mapping[str, Floats],
        *,
        safe: Sequence[str] = (),
        hopeful: Mapping[str, int] | None = None,
        simple: Mapping[str, Trial] | None = None,
    ) -> None:
        """The gate over `mixes`, base, best single, uniform and what else is `simple`; `held_out` holds the losses of
        the mixes and of what else there is. A mix that is one of the simple ones is no finalist of its own."""
        there = self.baselines
        known = {there.base.weights, there.best_single.weights, there.uniform.weights}
        known |= {trial.weights for trial in (simple or {}).values()}
        same = {name for name, mix in mixes.items() if mix.weights in known}
        mixes = {name: mix for name, mix in mixes.items() if name not in same}
        held_out = {name: losses for name, losses in held_out.items() if name not in same}
        finalists = {
            **mixes,
            **(simple or {}),
            BASE: there.base,
            there.best_single_name: there.best_single,
            UNIFORM: there.uniform,
        }
        losses = {
            **held_out,
            BASE: losses_of(there.base),
            there.best_single_name: self._single_held_out(folds),
            UNIFORM: losses_of(there.uniform),
        }
        self.gate = decide(
            tuple(mixes), BASE, losses, safe=(*safe, UNIFORM), hopeful=hopeful, counted=self.counted,
            folds=len(folds), seed=self._seed,
        )  # fmt: skip
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


def chosen_again(folds: Sequence[Indices], trials: Sequence[Trial], *, scale: float = 1.0) -> Floats:
    """(E,) for each fold the losses of the trial whose objective on the other examples is lowest (`chosen_on`)."""
    found = np.empty(sum(len(part) for part in folds))
    for part, rest in zip(folds, rests_of(folds), strict=True):
        found[part] = losses_of(chosen_on(rest, trials, scale=scale))[part]
    return found


def chosen_on(examples: Indices, trials: Sequence[Trial], *, scale: float = 1.0) -> Trial:
    """The trial whose objective on some of the examples is lowest. `scale` is what a mean loss per example is divided
    by in the objective."""
    losses = np.array([losses_of(trial)[examples].mean() for trial in trials])
    penalties = scale * np.array([trial.objective - trial.loss for trial in trials])
    return trials[int(np.argmin(losses + penalties))]


def folds_of(examples: int, seed: int) -> list[Indices]:
    """The examples in `FOLDS` parts, at random."""
    order = np.random.default_rng(seed).permutation(examples)
    return [np.sort(part) for part in np.array_split(order, min(FOLDS, examples))]


def rests_of(folds: Sequence[Indices]) -> list[Indices]:
    """For each fold all other examples."""
    everything = np.arange(sum(len(part) for part in folds))
    return [np.setdiff1d(everything, part) for part in folds]


def losses_of(trial: Trial) -> Floats:
    """(E,); what is infinite only counts as very large, so that means can be compared."""
    return np.minimum(np.array(trial.example_losses, dtype=np.float64), VERY_LARGE)
