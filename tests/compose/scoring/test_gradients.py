"""Gradients of the losses with respect to the weights, through the merge, against differences of losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compose.examples import Examples
from compose.scoring import make_scorer

WEIGHTS = np.array([[0.6, 0.3, 0.4], [0.2, 0.9, 0.1]])
STEP = 1e-4


@pytest.mark.parametrize("method", ["exact", "lorahub"])
def test_gradients_are_those_of_the_mean_loss_and_come_with_the_same_losses(
    family: Any, examples: Examples, method: str
) -> None:
    base = family.base()
    scorer: Any = make_scorer(
        base, examples=examples, adapters=family.adapters(base.model, scalings=(1.0,)), method=method
    )
    losses, gradients = scorer.losses_and_gradients(WEIGHTS)
    np.testing.assert_allclose(losses, scorer.example_losses(WEIGHTS), rtol=0, atol=1e-9)
    moved = np.concatenate([WEIGHTS[0] + STEP * np.eye(3), WEIGHTS[0] - STEP * np.eye(3)])
    up, down = scorer.example_losses(moved).mean(axis=1).reshape(2, 3)
    np.testing.assert_allclose(gradients[0], (up - down) / (2 * STEP), rtol=0.01, atol=5e-5)  # float32 norms inside
    assert gradients.shape == WEIGHTS.shape and np.abs(gradients[0] - gradients[1]).max() > 1e-6
