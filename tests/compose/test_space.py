"""The least point of a function within bounds, on the simplex, and on a simplex of any size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from compose.space import Space

Floats = NDArray[np.float64]
ALL = np.ones(6, dtype=bool)


def distance_to(*target: float) -> Callable[[Floats], tuple[float, Floats]]:
    """The squared distance to a point, and its gradient."""

    def function(w: Floats) -> tuple[float, Floats]:
        apart = w - np.array(target)
        return float(apart @ apart), 2 * apart

    return function


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ((1.0, 1.0), (0.6, 0.4, 0.0)),
        ((0.5, 1.5), (0.85, 0.65, 0.0)),
        ((1.7, 3.0), (0.95, 0.75, 0.0)),
        ((0.0, 0.2), (0.2, 0.0, 0.0)),
        ((1.0, 9.0), (0.9, 0.7, 0.0)),
    ],
)
def test_the_weights_add_up_to_what_is_best_within_the_scale(
    scale: tuple[float, float], expected: tuple[float, ...]
) -> None:
    """The nearest point to (0.9, 0.7, -0.2), whose weights from 0 add up to 1.6."""
    space = Space(3, (0.0, 1.5), simplex=True, scale=scale)
    found = space.minimum(distance_to(0.9, 0.7, -0.2), start=space.uniform, free=ALL[:3])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_sums_are_kept_in_every_group_for_itself() -> None:
    space = Space(3, (0.0, 1.5), simplex=True, groups=2, scale=(0.5, 2.0))
    target = (0.1, 0.9, 0.1, 0.7, 0.0, 0.6)  # group 1 adds up to 0.2, group 2 to 2.2
    found = space.minimum(distance_to(*target), start=space.uniform, free=ALL).reshape(3, 2)
    np.testing.assert_allclose(found, [[0.2, 0.9 - 0.2 / 3], [0.2, 0.7 - 0.2 / 3], [0.1, 0.6 - 0.2 / 3]], atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=0), [0.5, 2.0], atol=1e-6)


def test_where_too_few_weights_may_move_to_keep_the_sum_all_do() -> None:
    space = Space(3, (0.0, 0.6), simplex=True)
    one = np.array([True, False, False])
    found = space.minimum(distance_to(0.3, 0.5, 0.2), start=np.zeros(3), free=one)
    np.testing.assert_allclose(found, [0.3, 0.5, 0.2], atol=1e-3)
    kept = space.minimum(distance_to(0.3, 0.9, 0.9), start=np.array([0.2, 0.5, 0.3]), free=one)
    np.testing.assert_allclose(kept, [0.2, 0.5, 0.3], atol=1e-5)  # it cannot move, and need not


def test_without_simplex_only_the_bounds_count() -> None:
    space = Space(3, (-1.0, 1.0))
    found = space.minimum(distance_to(5.0, -0.5, -9.0), start=space.uniform, free=np.array([True, True, False]))
    np.testing.assert_allclose(found, [1.0, -0.5, 1 / 3], atol=1e-5)
