"""One cell of the benchmark: a task, a few-shot draw of it, and a number of examples. What a method may look at.

Losses of the base, the uniform mix and the single adapters are computed once per draw and remembered for all methods
and numbers of examples; their price is added to the time of each method that asks for them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from quality.tasks import Task

from compose.adapter import LoraAdapter
from compose.scoring import LoadedBase, Scorer, make_scorer

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Merge:
    """A merge method and, for lorahub, its fold."""

    method: str
    fold: str | None = None

    @property
    def params(self) -> dict[str, str]:
        return {"fold": self.fold} if self.fold else {}


FACTORS = Merge("lorahub", "balanced")
COMPAT = Merge("lorahub", "lorahub-compat")
EXACT = Merge("exact")


@dataclass
class TaskBench:
    """A task on a base with adapters; remembers test accuracies."""

    task: Task
    base: LoadedBase
    adapters: Sequence[LoraAdapter]
    _accuracies: dict[tuple[Merge, bytes], float] = field(default_factory=dict)
    _test_scorers: dict[Merge, Scorer] = field(default_factory=dict)

    def accuracy_of(self, adapter: LoraAdapter) -> float:
        """Of one more adapter by itself, on the test rows, in percent."""
        scorer = make_scorer(
            self.base, examples=self.task.test, adapters=[adapter], labels=self.task.labels, method="exact"
        )
        return self._percent_right(scorer, np.ones((1, 1)))

    def accuracy(self, merge: Merge, weights: Sequence[float]) -> float:
        """On the test rows, in percent."""
        row = np.array(weights, dtype=np.float64) + 0.0
        key = (merge, row.tobytes())
        if key not in self._accuracies:
            if merge not in self._test_scorers:
                self._test_scorers[merge] = make_scorer(
                    self.base, examples=self.task.test, adapters=self.adapters, labels=self.task.labels,
                    method=merge.method, params=merge.params,
                )  # fmt: skip
            self._accuracies[key] = self._percent_right(self._test_scorers[merge], row[None])
        return self._accuracies[key]

    def _percent_right(self, scorer: Scorer, row: Floats) -> float:
        [found] = scorer.predictions(row)
        right = [text == example.output for text, example in zip(found, self.task.test, strict=True)]
        return 100 * sum(right) / len(right)


@dataclass
class Draw:
    """`most` is the largest number of examples that is looked at."""

    bench: TaskBench
    number: int
    most: int
    _landmarks: dict[Merge, tuple[Floats, float]] = field(default_factory=dict)

    def landmark_losses(self, merge: Merge) -> tuple[Floats, float]:
        """(N + 2, most) losses of base, uniform and single adapters, and the CPU seconds that they took."""
        if merge not in self._landmarks:
            scorer = self.new_scorer(merge, self.most)
            began = time.process_time()
            losses = scorer.example_losses(landmark_weights(len(self.bench.adapters)))
            self._landmarks[merge] = losses, time.process_time() - began
        return self._landmarks[merge]

    def new_scorer(self, merge: Merge, shots: int) -> Scorer:
        bench = self.bench
        return make_scorer(
            bench.base, examples=bench.task.draw(self.number, shots), adapters=bench.adapters, labels=bench.task.labels,
            method=merge.method, params=merge.params,
        )  # fmt: skip


def landmark_weights(adapters: int) -> Floats:
    """Base, uniform, and each adapter by itself."""
    return np.concatenate([np.zeros((1, adapters)), np.full((1, adapters), 1 / adapters), np.eye(adapters)])


class Cell:
    """`seconds_off` corrects the clock for work that was shared with other cells."""

    def __init__(self, draw: Draw, *, shots: int, budget: int) -> None:
        self.draw, self.shots, self.budget = draw, shots, budget
        self.names = tuple(adapter.name for adapter in draw.bench.adapters)
        self.seed = draw.number
        self.seconds_off = 0.0

    def scorer(self, merge: Merge) -> Scorer:
        """Over the few-shot examples, with the product's interface."""
        return _RememberingScorer(self, merge)

    def best_first(self, merge: Merge) -> list[int]:
        """The single adapters, the lowest mean loss first."""
        losses = self.scorer(merge).example_losses(np.eye(len(self.names))).mean(axis=1)
        return [int(i) for i in np.argsort(losses, kind="stable")]

    def known(self, merge: Merge) -> tuple[dict[bytes, Floats], float]:
        """Weight row -> (shots,) losses for the landmarks, and the CPU seconds that one of them costs."""
        began = time.process_time()
        losses, seconds = self.draw.landmark_losses(merge)
        self.seconds_off -= time.process_time() - began
        rows = landmark_weights(len(self.names))
        price = seconds / len(rows) * self.shots / self.draw.most
        return {row.tobytes(): loss[: self.shots] for row, loss in zip(rows, losses, strict=True)}, price


class _RememberingScorer:
    def __init__(self, cell: Cell, merge: Merge) -> None:
        self._cell, self._merge = cell, merge
        self._inner = cell.draw.new_scorer(merge, cell.shots)

    @property
    def adapter_names(self) -> tuple[str, ...]:
        return self._inner.adapter_names

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return self._inner.token_counts

    @property
    def method(self) -> str:
        return self._inner.method

    @property
    def method_params(self) -> Mapping[str, object]:
        return self._inner.method_params

    def example_losses(self, weights: Floats) -> Floats:
        if len(weights) == 1 and not _is_landmark(weights[0]):
            return self._inner.example_losses(weights)
        known, price = self._cell.known(self._merge)
        found = [known.get((row + 0.0).tobytes()) for row in weights]
        self._cell.seconds_off += price * sum(losses is not None for losses in found)
        return np.array(
            [
                self._inner.example_losses(row[None])[0] if losses is None else losses
                for row, losses in zip(weights, found, strict=True)
            ]
        )

    def losses_and_gradients(self, weights: Floats) -> tuple[Floats, Floats]:
        found: tuple[Floats, Floats] = self._inner.losses_and_gradients(weights)  # type: ignore[attr-defined]
        return found

    def predictions(self, weights: Floats) -> list[list[str]]:
        return self._inner.predictions(weights)


def _is_landmark(row: Floats) -> bool:
    return bool((row == 0).all()) or (np.count_nonzero(row) == 1 and row.sum() == 1)
