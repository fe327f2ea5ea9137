"""A ledger for whole adapters in front of one for groups of modules: one weight an adapter, the same in all groups.

So a search that knows nothing of groups can be run first, its trials are ordinary trials of the search by groups, and
neither scores what the other has scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .trials import Kind, Ledger, Trial

Floats = NDArray[np.float64]


class TiedLedger(Ledger):
    """`trials` are those that were scored through it, with N weights each; `behind` has them with N * G."""

    def __init__(self, behind: Ledger, groups: int, *, budget: int) -> None:
        self.trials = []
        self.budget = budget
        self._behind, self._groups = behind, groups

    @property
    def searched(self) -> tuple[int, ...] | None:
        return self._behind.searched

    @searched.setter
    def searched(self, found: tuple[int, ...] | None) -> None:
        self._behind.searched = found

    def find(self, row: Floats) -> Trial | None:
        found = self._behind.find(np.repeat(row, self._groups))
        return None if found is None else self._tied(found)

    def score(self, rows: Floats, kinds: Sequence[Kind], *, again: bool = False) -> list[Trial]:
        before = len(self._behind.trials)
        found = self._behind.score(np.repeat(rows, self._groups, axis=1), kinds, again=again)
        self.trials += [self._tied(trial) for trial in self._behind.trials[before:]]
        return [self._tied(trial) for trial in found]

    def penalty_gradient(self, weights: Floats) -> Floats:
        gradient = self._behind.penalty_gradient(np.repeat(weights, self._groups))
        return np.asarray(gradient.reshape(-1, self._groups).sum(axis=1))

    def untied(self, trial: Trial) -> Trial:
        """The same trial as the ledger behind has it."""
        return self._behind.trials[trial.number - 1]

    def _tied(self, trial: Trial) -> Trial:
        return replace(trial, weights=trial.weights[:: self._groups])
