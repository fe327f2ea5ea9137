"""The search of LoRAHub's code (arXiv 2307.13269), kept exact: NGOpt from 0 within +-1.5, one evaluation at a time, and
the point that nevergrad recommends. Used through `compose.search.search(preset="lorahub")`.
"""

from __future__ import annotations

from .errors import SearchError
from .trials import Ledger, Trial

BOUNDS = (-1.5, 1.5)


class PresetRun:
    """LoRAHub's loop: exactly `budget` asks of NGOpt, one at a time, and its recommendation."""

    optimizer = "NGOpt"
    baselines = None
    gate = None

    def __init__(self, names: tuple[str, ...], ledger: Ledger, *, seed: int) -> None:
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

    def run_no_further(self) -> None:
        """Settle on the trials that the ledger holds already: there is no recommendation, so the best one counts."""
        if not self._ledger.trials:
            raise SearchError("the search has scored nothing yet", remedy="resume it without --finish")

    def choose(self) -> Trial:
        return self._recommended or self._ledger.best

    def fell_back(self, chosen: Trial) -> str | None:
        del chosen
        return None
