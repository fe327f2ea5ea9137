"""The reductions: what each example counts, and how the two settings relate."""

from __future__ import annotations

import numpy as np
import pytest

from compose.objective import LORAHUB_OBJECTIVE, Objective, lorahub_mean, mean_over_examples

LOSSES = np.random.default_rng(0).uniform(0, 3, (4, 5))
COUNTS = np.array([1, 4, 2, 8, 3])


def test_the_default_counts_every_example_the_same_however_long() -> None:
    longer = COUNTS * [1, 10, 1, 1, 1]
    np.testing.assert_array_equal(mean_over_examples(LOSSES, COUNTS), mean_over_examples(LOSSES, longer))
    np.testing.assert_allclose(mean_over_examples(LOSSES, COUNTS)[1], sum(LOSSES[1]) / 5)


def test_lorahub_s_loss_is_that_of_one_long_row_divided_by_the_examples() -> None:
    tokens = [np.repeat(row, COUNTS) for row in LOSSES]
    np.testing.assert_allclose(lorahub_mean(LOSSES, COUNTS), [row.mean() / 5 for row in tokens])


def test_with_equal_lengths_the_two_differ_by_the_number_of_examples() -> None:
    equal = np.full(5, 3)
    np.testing.assert_allclose(5 * lorahub_mean(LOSSES, equal), mean_over_examples(LOSSES, equal))


def test_the_order_of_the_examples_does_not_matter() -> None:
    order = [3, 0, 4, 2, 1]
    for reduce in (mean_over_examples, lorahub_mean):
        np.testing.assert_allclose(reduce(LOSSES[:, order], COUNTS[order]), reduce(LOSSES, COUNTS))


def test_the_penalty_is_even_and_proportional() -> None:
    weights = np.random.default_rng(1).uniform(-1, 1, (4, 6))
    objective = Objective(mean_over_examples, l1=0.2)
    np.testing.assert_allclose(objective.penalties(weights, 4), objective.penalties(-weights, 4))
    np.testing.assert_allclose(3 * objective.penalties(weights, 4), objective.penalties(3 * weights, 4))
    np.testing.assert_allclose(
        4 * Objective(mean_over_examples, 0.05).penalties(weights, 4), objective.penalties(weights, 4)
    )
    assert LORAHUB_OBJECTIVE.penalties(np.array([[1.0, -1.0]]), 4)[0] == pytest.approx(0.05)
