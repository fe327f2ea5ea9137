"""The search of LoRAHub's code (arXiv 2307.13269), kept exact: NGOpt from 0 within +-1.5, one evaluation at a time, and
the point that nevergrad recommends. Used through `compose.search.search(preset="lorahub")`.

What it returns is the reference's answer whatever the examples say. Beside it stands an estimate against the base, as
the gate of the other searches makes it (`gate.py`), and a warning where that is no evidence of a gain.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .errors import SearchError
from .gate import Gate, decide
from .judged_run import BASE, FOUND, VERY_LARGE, chosen_again, folds_of
from .trials import Ledger, Trial

Floats = NDArray[np.float64]

BOUNDS = (-1.5, 1.5)


class PresetRun:
    """LoRAHub's loop: exactly `budget` asks of NGOpt, one at a time, and its recommendation."""

    optimizer = "NGOpt"
    baselines = None

    def __init__(self, names: tuple[str, ...], ledger: Ledger, *, seed: int, gated: bool = True) -> None:
        self.gate: Gate | None = None
        self._gated = gated
        self.searched = tuple(range(len(names)))
        self.notes: list[str] = []
        self._ledger, self._seed = ledger, seed
        self._recommended: Trial | None = None
        ledger.searched = self.searched

    def run(self) -> None:
        from .nevergrad_search import Asker

        start, budget = [0.0] * len(self.searched), self._ledger.budget
        asker = Asker(self.optimizer, start=start, bounds=BOUNDS, budget=budget, workers=1, seed=self._seed)
        with asker:
            while self._ledger.left:
                [trial] = self._ledger.score(asker.ask(1), ["ask"], again=True)
                asker.tell([trial.objective])
            recommended = asker.recommend()[None]
        if self._ledger.find(recommended[0] + 0.0) is None:
            self.notes.append("The recommended point was scored once more than the budget says, to know its loss.")
        [self._recommended] = self._ledger.score(recommended, ["recommend"])
        self._estimate(self._ledger.losses_beside(np.zeros(len(self.searched))))

    def run_no_further(self) -> None:
        """Settle on the trials that the ledger holds already: there is no recommendation, so the best one counts."""
        if not self._ledger.trials:
            raise SearchError("the search has scored nothing yet", remedy="resume it without --finish")
        self.judge_stored()

    def judge_stored(self) -> None:
        """The estimate by the trials that there are: the base is one of them where NGOpt began at 0."""
        base = self._ledger.find(np.zeros(len(self.searched)))
        if self.gate is None and base is not None and base.example_losses is not None:
            self._estimate(np.array(base.example_losses))

    def choose(self) -> Trial:
        return self._recommended or self._ledger.best

    def fell_back(self, chosen: Trial) -> str | None:
        del chosen
        return None

    def _estimate(self, base: Floats | None) -> None:
        """`base` (E,): the bare model's losses. Changes nothing but what is said."""
        asks = [trial for trial in self._ledger.trials if trial.kind == "ask"]
        if not self._gated or base is None or len(base) < 2 or any(trial.example_losses is None for trial in asks):
            return
        folds = folds_of(len(base), self._seed)
        held_out = {
            # the objective's loss is divided by the number of examples once more
            FOUND: chosen_again(folds, asks, scale=len(base)),
            BASE: np.minimum(base, VERY_LARGE),
        }
        weights = min(len(self.searched), len(asks))
        gate = decide([FOUND], BASE, held_out, hopeful={FOUND: weights}, folds=len(folds), seed=self._seed)
        if gate.kept == BASE:
            said = gate.sentence.replace(f"so {BASE} was kept", "and the preset keeps its mix all the same")
        else:
            said = gate.sentence.replace("and was kept", "and was kept, as the preset does in any case")
        self.gate = replace(gate, kept=FOUND, sentence=said)
        self.notes.append(said)
