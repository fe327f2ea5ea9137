"""What a search leaves behind: its trials, in order, and the result. Scoring goes through the `Ledger`, which replays
stored trials, never scores a weight row twice, and tells the caller after every batch.

Knows nothing of optimizers. Resuming is replaying: the search asks the same points again and the ledger answers from
the stored trials until they are used up, so that no state of an optimizer is ever saved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import SearchError
from .gate import Gate
from .objective import Objective

if TYPE_CHECKING:
    from .methods.params import Value
    from .scoring.protocol import Scorer

Kind = Literal["base", "uniform", "single", "part", "top", "fold", "ask", "recommend"]
"""What a trial is for: `part` is a mix without one group of modules of one adapter, `top` the uniform mix of the best
singles, `fold` a mix made without some of the examples."""


@dataclass(frozen=True)
class Trial:
    """One weight vector and what it scored. `number` counts from 1; `loss` may be infinite, never NaN.

    `example_losses` (E,) is None in trials that were stored before they were kept.
    """

    number: int
    weights: tuple[float, ...]
    loss: float
    objective: float
    kind: Kind
    example_losses: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Baselines:
    """What a mix has to beat. With one adapter, `uniform` is the single adapter itself."""

    base: Trial
    uniform: Trial
    best_single: Trial
    best_single_name: str

    @property
    def lowest_loss(self) -> float:
        return min(self.base.loss, self.uniform.loss, self.best_single.loss)


@dataclass(frozen=True)
class Progress:
    """After a batch: its `trials`, the lowest objective so far, and which adapters are searched (their positions, best
    first; None until the single adapters have been scored). `replayed`: the batch came from stored trials."""

    trials: tuple[Trial, ...]
    best: Trial
    evaluations: int
    budget: int
    searched: tuple[int, ...] | None
    replayed: bool


@dataclass(frozen=True)
class SearchResult:
    """`weights` is in the order of `adapter_names`; with `groups` (their names) all groups of the first adapter come
    first, then those of the second. `fell_back` names the baseline that was kept ("base", "uniform",
    "top" or an adapter) when no mix was better; `baselines` is None with the lorahub preset, which scores none. `gate`
    is what examples that the mix was not fitted to say of it; None where none were held out."""

    adapter_names: tuple[str, ...]
    weights: tuple[float, ...]
    loss: float
    objective: float
    trials: tuple[Trial, ...]
    baselines: Baselines | None
    searched: tuple[int, ...]
    evaluations: int
    budget: int
    seed: int
    optimizer: str
    preset: str | None
    stopped: bool
    fell_back: str | None
    notes: tuple[str, ...]
    gate: Gate | None = None
    groups: tuple[str, ...] = ()
    method: str | None = None
    """How the weights are to be mixed, with `params`; None in searches that were made before it was kept."""
    params: Mapping[str, Value] = field(default_factory=dict)

    @property
    def by_adapter(self) -> tuple[tuple[float, ...], ...]:
        """The numbers of each adapter: one for each group, or just one."""
        size = max(1, len(self.groups))
        return tuple(self.weights[i : i + size] for i in range(0, len(self.weights), size))


class Ledger:
    """Trials in the order in which they were scored. Without a scorer it only holds those that were given."""

    def __init__(
        self,
        scorer: Scorer | None,
        objective: Objective,
        *,
        budget: int,
        replay: Sequence[Trial],
        on_trial: Callable[[Progress], None] | None,
    ) -> None:
        self.trials: list[Trial] = []
        self.budget = budget
        self.searched: tuple[int, ...] | None = None
        self._scorer, self._objective, self._on_trial = scorer, objective, on_trial
        self._examples = len(scorer.token_counts) if scorer is not None else 1
        self._stored = deque(replay)
        self._by_weights: dict[bytes, Trial] = {}

    @property
    def left(self) -> int:
        """Evaluations that the budget still allows."""
        return self.budget - len(self.trials)

    @property
    def best(self) -> Trial:
        return min(self.trials, key=lambda trial: trial.objective)

    def find(self, row: NDArray[np.float64]) -> Trial | None:
        """The trial of exactly these weights, bit for bit."""
        return self._by_weights.get(_key(row))

    def score(self, rows: NDArray[np.float64], kinds: Sequence[Kind], *, again: bool = False) -> list[Trial]:
        """A trial for each row of (K, N); rows scored before (and twins in the batch) are neither scored nor counted,
        unless `again`. All new rows are scored as ONE batch."""
        rows = rows + 0.0  # -0.0 and 0.0 are the same weight
        fresh: dict[int, bytes] = {}
        for i, row in enumerate(rows):
            key = _key(row)
            if again or (key not in self._by_weights and key not in fresh.values()):
                fresh[i] = key
        added: dict[int, Trial] = {}
        if fresh:
            added = dict(zip(fresh, self._score(rows[list(fresh)], [kinds[i] for i in fresh]), strict=True))
        return [added[i] if i in added else self._by_weights[_key(row)] for i, row in enumerate(rows)]

    def penalty_gradient(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,): of what the objective adds to the loss."""
        return self._objective.penalty_gradient(weights, self._examples)

    def losses_beside(self, row: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """(E,) losses of weights (N,): of their trial, or scored beside the budget and the trials. None where neither
        is possible."""
        trial = self.find(row)
        if trial is not None:
            return None if trial.example_losses is None else np.array(trial.example_losses, dtype=np.float64)
        return None if self._scorer is None else np.asarray(self._scorer.example_losses(row[None])[0])

    def adopt_stored(self) -> None:
        """Take all stored trials as they are, whatever the search would ask for."""
        for trial in self._stored:
            self._by_weights.setdefault(_key(rows_of([trial])[0]), trial)
        self.trials += self._stored
        self._stored.clear()

    def check_used_up(self) -> None:
        """`SearchError` when stored trials are left over: they belong to another search."""
        if self._stored:
            raise _other_search(f"it holds {len(self._stored)} trials more than this search asks for")

    def _score(self, rows: NDArray[np.float64], kinds: Sequence[Kind]) -> list[Trial]:
        stored = self._take_stored(rows)
        if stored is None:
            if self._scorer is None:
                raise SearchError("there is no scorer to score with")
            example_losses = self._scorer.example_losses(rows)
            losses = self._objective.reduce(example_losses, self._scorer.token_counts)
            losses = np.where(np.isnan(losses), np.inf, losses)
            per_example: list[tuple[float, ...] | None] = [
                tuple(row.tolist()) for row in np.where(np.isnan(example_losses), np.inf, example_losses)
            ]
        else:
            losses = np.array([trial.loss for trial in stored])
            per_example = [trial.example_losses for trial in stored]
        objectives = losses + self._objective.penalties(rows, self._examples)
        new = [
            Trial(
                len(self.trials) + 1 + i, tuple(row.tolist()), float(losses[i]), float(objectives[i]), kinds[i],
                per_example[i],
            )
            for i, row in enumerate(rows)
        ]  # fmt: skip
        for mine, theirs in zip(new, stored or (), strict=stored is not None):
            if (mine.objective, mine.kind) != (theirs.objective, theirs.kind):
                raise _other_search(
                    f"trial {theirs.number} was a {theirs.kind} of objective {theirs.objective!r}, here "
                    f"it is a {mine.kind} of {mine.objective!r}"
                )
        self.trials += new
        for trial, row in zip(new, rows, strict=True):
            self._by_weights.setdefault(_key(row), trial)
        self._report(new, replayed=stored is not None)
        return new

    def _take_stored(self, rows: NDArray[np.float64]) -> list[Trial] | None:
        """The stored trials of this batch; None when there are none, or not all of it was stored: then the whole batch
        is scored again, so that its losses are those of an uninterrupted search to the last bit."""
        taken = [self._stored.popleft() for _ in range(min(len(rows), len(self._stored)))]
        for trial, row in zip(taken, rows, strict=False):
            if _key(rows_of([trial])[0]) != _key(row):
                raise _other_search(
                    f"trial {trial.number} has the weights {list(trial.weights)}, this search asks for {row.tolist()}"
                )
        return taken if taken and len(taken) == len(rows) else None

    def _report(self, new: Sequence[Trial], *, replayed: bool) -> None:
        if self._on_trial is not None:
            self._on_trial(
                Progress(tuple(new), self.best, len(self.trials), self.budget, self.searched, replayed=replayed)
            )


def rows_of(trials: Sequence[Trial]) -> NDArray[np.float64]:
    """(T, N): the weights of the trials."""
    return np.array([trial.weights for trial in trials], dtype=np.float64)


def _key(row: NDArray[np.float64]) -> bytes:
    return row.tobytes()


def _other_search(difference: str) -> SearchError:
    return SearchError(
        f"the stored trials belong to another search: {difference}",
        remedy="resume with the same adapters, examples, base, method, seed, budget, workers, optimizer, bounds "
        "and groups; what another version of mixhub began is published by --resume ID --finish",
    )
