"""The model that predicts mixes: exact where log-odds are linear, right about every mix that it was told of."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from compose.margin_model import MarginModel, log_odds
from compose.prior import Prior
from compose.space import Space

SLOPES = np.random.default_rng(0).normal(0, 2, (4, 12))
BASE = np.random.default_rng(1).normal(0, 1, 12)


def losses(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a world whose log-odds are linear in the weights."""
    return np.asarray(np.logaddexp(0, -(BASE + weights @ SLOPES)))


def model() -> MarginModel:
    return MarginModel.of_singles(losses(np.zeros(4)), np.array([losses(row) for row in np.eye(4)]))


def test_log_odds_turn_back_into_the_loss_and_stay_finite() -> None:
    found = np.array([1e-3, 0.5, 3.0, 40.0])
    np.testing.assert_allclose(np.logaddexp(0, -log_odds(found)), found, rtol=1e-9)
    assert np.isfinite(log_odds(np.array([0.0, -1.0, np.inf, np.nan]))).all()


def test_in_a_linear_world_every_mix_is_predicted_from_the_single_adapters() -> None:
    for weights in np.random.default_rng(2).uniform(0, 1, (5, 4)):
        np.testing.assert_allclose(model().predicted(weights), losses(weights), rtol=1e-6)


def test_a_correction_is_right_about_the_new_mix_and_changes_no_direction_across_it() -> None:
    step, across = np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, -1.0, 0.0, 0.0])
    seen = losses(step) + 0.3
    corrected = model().corrected(step, seen)
    np.testing.assert_allclose(corrected.predicted(step), seen, rtol=1e-6)
    np.testing.assert_allclose(corrected.predicted(across), model().predicted(across), rtol=1e-9)


def test_a_model_moved_to_a_mix_is_right_there_whatever_its_slopes() -> None:
    there = np.array([0.2, 0.7, 0.0, 0.1])
    np.testing.assert_allclose(model().moved(there, losses(there) * 2).predicted(there), losses(there) * 2, rtol=1e-6)


@pytest.mark.parametrize("bounds", [(0.0, 1.5), (-0.5, 0.4), (0.1, 0.2)])
def test_a_fit_stays_within_the_bounds(bounds: tuple[float, float]) -> None:
    space = Space(4, bounds)
    for weights in (model().fit(space, Prior(0.1)), model().averaged_fit(space, Prior(0.1), seed=0)):
        assert (weights >= bounds[0] - 1e-12).all() and (weights <= bounds[1] + 1e-12).all()


def test_weights_on_the_simplex_add_up_to_one() -> None:
    weights = model().averaged_fit(Space(4, (0.0, 1.5), simplex=True), Prior(0.1), seed=0)
    assert weights.sum() == pytest.approx(1, abs=1e-6) and (weights >= -1e-9).all()


def test_a_stronger_prior_keeps_the_weights_nearer_to_the_uniform_mix() -> None:
    space = Space(4, (-3.0, 3.0))
    fits = [model().fit(space, Prior(strength)) for strength in (0.1, 1.0, 10.0, 1000.0)]
    apart = [np.linalg.norm(fit - fit.mean()) for fit in fits]
    assert apart == sorted(apart, reverse=True) and apart[-1] < 0.02


def test_a_fit_lowers_the_penalised_loss_below_that_of_every_single_adapter() -> None:
    space, prior = Space(4, (0.0, 1.5)), Prior(0.5)

    def value(weights: NDArray[np.float64]) -> float:
        return float(losses(weights).sum() + prior.penalties(weights))

    assert value(model().fit(space, prior)) < min(value(row) for row in (*np.eye(4), np.zeros(4)))


def test_only_the_most_promising_weights_move_when_few_may() -> None:
    start = np.full(4, 0.25)
    moved = model().moved(start, losses(start)).averaged_fit(Space(4, (0.0, 1.5)), Prior(0.1), seed=0, moving=1)
    assert (moved != start).sum() == 1


def test_the_order_of_the_adapters_does_not_matter() -> None:
    turned = np.array([2, 0, 3, 1])
    other = MarginModel(np.zeros(4), model().margins, model().slopes[turned])
    one, two = (m.averaged_fit(Space(4, (0.0, 1.5)), Prior(1.0), seed=3) for m in (model(), other))
    np.testing.assert_allclose(one[turned], two, atol=2e-3)
