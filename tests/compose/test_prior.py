"""The prior: nothing at a multiple of the uniform mix, its own gradient, and the same with and without groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from compose.prior import TOTAL, TOTAL_STRENGTH, Prior


def test_the_uniform_mix_of_the_expected_total_costs_nothing() -> None:
    assert Prior(3.0).penalties(np.full(5, TOTAL / 5)) == pytest.approx(0, abs=1e-12)


def test_more_of_all_adapters_costs_by_the_total_and_more_of_one_by_the_strength_too() -> None:
    alike, one = np.full(4, (TOTAL + 1) / 4), np.full(4, TOTAL / 4) + np.eye(4)[0]
    assert Prior(3.0).penalties(alike) == pytest.approx(TOTAL_STRENGTH)
    assert Prior(3.0).penalties(one) == pytest.approx(TOTAL_STRENGTH + 3.0 * (1 - 1 / 4))


def test_of_few_adapters_no_more_than_one_each_is_expected() -> None:
    for groups in (1, 2):
        assert Prior(3.0, groups, total=5.0).penalties(np.ones(3 * groups)) == pytest.approx(0, abs=1e-12)
        assert Prior(3.0, groups, total=5.0).penalties(np.ones(7 * groups)) == pytest.approx(TOTAL_STRENGTH * 4)


@pytest.mark.parametrize("groups", [1, 3])
def test_the_gradient_is_that_of_the_penalty(groups: int) -> None:
    prior, at = Prior(1.5, groups), np.random.default_rng(0).uniform(-1, 2, 6)
    assert check_grad(lambda w: float(prior.penalties(w)), prior.gradient, at) < 1e-5


def test_equal_weights_over_the_groups_cost_what_they_cost_without_groups() -> None:
    weights = np.array([[0.5, -0.25, 1.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(Prior(2.0, 4).penalties(np.repeat(weights, 4, axis=1)), Prior(2.0).penalties(weights))
