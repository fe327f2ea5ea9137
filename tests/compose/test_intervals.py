"""The bootstrap interval of a few-shot score: around its mean, wider for fewer examples, and not made up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from compose.intervals import few_shot_intervals, interval_of
from compose.trials import Trial


def test_it_holds_the_mean_and_is_as_wide_as_the_standard_error_says() -> None:
    losses = np.random.default_rng(0).normal(2.0, 0.5, 100)
    found = interval_of(losses.tolist())
    assert found is not None and found.mean == pytest.approx(losses.mean())
    half = 1.645 * losses.std() / 10
    assert found.mean - found.low == pytest.approx(half, rel=0.1)
    assert found.high - found.mean == pytest.approx(half, rel=0.1)
    few = interval_of(losses[:10].tolist())
    assert few is not None and few.high - few.low > 2 * (found.high - found.low)


def test_it_covers_the_true_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    intervals = [interval_of(random.exponential(1.0, 32).tolist()) for _ in range(200)]
    covered = np.mean([one is not None and one.low <= 1 <= one.high for one in intervals])
    assert 0.8 < covered < 0.96


def test_there_is_none_of_one_example_nor_of_losses_that_are_not_finite() -> None:
    assert interval_of([1.0]) is None and interval_of([1.0, math.inf]) is None


def test_each_of_what_is_compared_has_that_of_its_trial_if_it_has_one() -> None:
    trials = [
        Trial(1, (0.0, 0.0), 2.0, 2.0, "base", (1.0, 3.0)),
        Trial(2, (1.0, 0.0), 1.0, 1.0, "single", None),
        Trial(3, (0.5, 0.5), 1.5, 1.5, "ask", (1.5, 1.5)),
    ]
    found = few_shot_intervals(trials, {"base": [0, 0], "single": [1.0, 0.0], "mix": (0.5, 0.5), "other": (9.0, 9.0)})
    assert found.keys() == {"base", "mix"}
    assert (found["base"].low, found["base"].high) == (1.0, 3.0) and found["mix"].low == found["mix"].high == 1.5
