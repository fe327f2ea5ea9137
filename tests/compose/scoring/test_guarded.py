"""A guard set: what makes it worse is never better than the base, whatever it does for the target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from compose.pareto import Tradeoff, tradeoffs
from compose.scoring.guarded import GuardedScorer
from compose.search import search
from compose.trials import Trial

Floats = np.ndarray


class Formula:
    """A scorer of one adapter whose losses are a function of its weight; counts the rows that it scored."""

    adapter_names, method, method_params = ("a", "b"), "exact", {}

    def __init__(self, loss: Callable[[Floats], Floats], examples: int = 3) -> None:
        self._loss, self._examples, self.scored = loss, examples, 0
        self.token_counts = np.ones(examples, dtype=np.int64)

    def example_losses(self, weights: Floats) -> Floats:
        self.scored += len(weights)
        return self._loss(weights)[:, None] + np.linspace(0, 0.3, self._examples)

    def predictions(self, weights: Floats) -> list[list[str]]:
        return [["text"] * self._examples] * len(weights)


def target(weights: Floats) -> Floats:
    """The further both go up, the better."""
    return 4 - weights.sum(axis=1)


def harm(weights: Floats) -> Floats:
    """The second adapter does harm, the first a little good."""
    return 1 + np.maximum(0, weights[:, 1]) - 0.01 * weights[:, 0]


def guarded(**options: Any) -> GuardedScorer:
    return GuardedScorer(Formula(target), Formula(harm, 2), **options)


def test_what_keeps_the_guard_is_scored_as_without_one() -> None:
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, -1.0]])
    np.testing.assert_array_equal(guarded().example_losses(rows), Formula(target).example_losses(rows))


def test_what_harms_the_guard_is_worse_than_the_base_for_every_example_and_more_so_the_more_it_harms() -> None:
    rows = np.array([[0.0, 0.0], [1.0, 0.3], [1.0, 0.9]])
    base, little, much = guarded().example_losses(rows)
    assert (base < little).all() and (little < much).all()


def test_a_search_under_guard_ends_within_it_and_without_one_does_not() -> None:
    free = search(("a", "b"), Formula(target), budget=30)
    kept = search(("a", "b"), guarded(), budget=30)
    assert harm(np.array([free.weights]))[0] > 1.1
    assert harm(np.array([kept.weights]))[0] <= 1.00002
    assert kept.baselines is not None and kept.loss < kept.baselines.base.loss - 0.5, "the first adapter helps"
    loose = search(("a", "b"), guarded(tolerance=0.5), budget=30)
    assert loose.loss < kept.loss and harm(np.array([loose.weights]))[0] <= 1.50002


def test_means_are_those_before_the_guard_and_are_not_scored_twice() -> None:
    inner = Formula(target)
    scorer = GuardedScorer(inner, Formula(harm, 2))
    rows = np.array([[1.0, 0.3], [0.0, 0.0]])
    scorer.example_losses(rows)
    scored = inner.scored
    expected = np.stack([target(rows) + 0.15, harm(rows) + 0.15], axis=1)
    np.testing.assert_allclose(scorer.means(rows), expected)
    assert inner.scored == scored
    np.testing.assert_allclose(scorer.means(np.array([[0.2, 0.2]])), [[3.75, 1.348]])


def trial(number: int, weights: tuple[float, ...], loss: float) -> Trial:
    return Trial(number, weights, loss, loss, "ask")


def test_the_table_holds_what_no_other_trial_beats_in_everything() -> None:
    trials = [
        trial(1, (0, 0), 4.0),
        trial(2, (1, 0), 3.0),
        trial(3, (1, 1), 2.0),
        trial(4, (0.5, 1), 2.5),  # beaten by 3 in target and guard
        trial(5, (0, 1), 3.0),  # as trial 2 in target and number, worse in guard
        trial(6, (0, 2), 3.0),
    ]
    means = np.array([[4.0, 1.0], [3.0, 1.0], [2.0, 1.5], [2.5, 1.6], [3.0, 1.2], [3.0, 1.2]])
    assert tradeoffs(trials, means) == (
        Tradeoff(3, 2.0, 1.5, 2),
        Tradeoff(2, 3.0, 1.0, 1),
        Tradeoff(1, 4.0, 1.0, 0),
    )
    assert [row.number for row in tradeoffs(trials)] == [3, 2, 1]


@pytest.mark.parametrize("count", [1, 40])
def test_no_row_of_the_table_beats_another_and_every_other_trial_is_beaten_or_equal(count: int) -> None:
    random = np.random.default_rng(count)
    trials = [trial(i + 1, tuple(random.integers(0, 2, 3).tolist()), 0.0) for i in range(count)]
    means = random.integers(0, 5, (count, 2)).astype(float)
    rows = np.column_stack([means, [sum(w != 0 for w in t.weights) for t in trials]])
    front = [row.number - 1 for row in tradeoffs(trials, means)]
    for i in range(count):
        beaten = [j for j in front if (rows[j] <= rows[i]).all() and j != i]
        assert (i in front) == (not beaten)
