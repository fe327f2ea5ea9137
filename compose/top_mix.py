"""The uniform mix of the best single adapters, as one more thing that a found mix has to beat.

It takes one evaluation. Which adapters are the best is chosen on the examples, so its own losses flatter it; what the
mix of those that are best without a fold would score on that fold is predicted (`margin_model.py`: log-odds linear in
the weights, through base, singles and the one mix that was scored). Scoring those mixes too would cost a search of 20
adapters with 40 evaluations four of the 18 that the baselines leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .margin_model import MarginModel
from .trials import Ledger, Trial

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

TOP = 5
LEAST_LEFT = 3
"""Evaluations that must be left for it to be scored: at most a third goes to it."""


@dataclass(frozen=True)
class TopMix:
    """Of `count` adapters. 0: it takes no part."""

    count: int

    @property
    def name(self) -> str:
        return f"the uniform mix of the {self.count} best"

    def evaluations(self, adapters: int) -> int:
        """1, where there are more adapters than that; else it is the uniform mix."""
        return int(0 < self.count < adapters)

    def score(self, ledger: Ledger, singles: Sequence[Trial], groups: int = 1) -> None:
        """One evaluation, where there are more adapters than `count` and the budget has room; whole adapters."""
        if self.evaluations(len(singles)) and ledger.left >= LEAST_LEFT:
            row = self.row([trial.loss for trial in singles])
            ledger.score(np.repeat(row, groups)[None], ["top"])

    def scored(self, ledger: Ledger) -> Trial | None:
        return next((trial for trial in ledger.trials if trial.kind == "top"), None) if self.count else None

    def row(self, losses: Sequence[float] | Floats) -> Floats:
        """(N,) weights for the mean losses (N,) of the single adapters."""
        row = np.zeros(len(losses))
        row[np.argsort(losses, kind="stable")[: self.count]] = 1 / self.count
        return row

    def held_out(
        self, base: Floats, singles: Floats, scored: tuple[Floats, Floats], folds: Sequence[Indices],
        rests: Sequence[Indices],
    ) -> Floats:  # fmt: skip
        """(E,) losses, predicted, from those of base (E,), single adapters (N, E) and the mix that was `scored`: its
        weights (N,) and losses (E,)."""
        model = MarginModel.of_singles(base, singles).corrected(*scored)
        losses = np.empty(len(base))
        for part, rest in zip(folds, rests, strict=True):
            losses[part] = model.predicted(self.row(singles[:, rest].mean(axis=1)))[part]
        return losses
