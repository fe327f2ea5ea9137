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


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.4, 1.1)])
def test_a_projection_is_the_nearest_point_of_the_space_and_leaves_what_is_in_it(
    groups: int, scale: tuple[float, float]
) -> None:
    space = Space(4, (0.0, 0.8), simplex=True, groups=groups, scale=scale)
    rows = np.random.default_rng(groups).normal(0.3, 0.8, (20, space.size))
    found = space.projected(rows)
    assert all(space.contains_sums(row) for row in found.tolist()) and (found >= 0).all() and (found <= 0.8).all()
    for row, near in zip(rows, found, strict=True):
        best = space.minimum(distance_to(*row), start=space.uniform, free=np.ones(space.size, dtype=bool))
        assert np.linalg.norm(near - row) <= np.linalg.norm(best - row) + 1e-4
        np.testing.assert_allclose(near, best, atol=2e-3)
    np.testing.assert_allclose(space.projected(found), found, atol=1e-12)


def test_a_projection_moves_only_the_weights_that_are_free() -> None:
    space = Space(3, (0.0, 1.5), simplex=True)
    row = np.array([[0.9, 0.7, 0.3]])
    np.testing.assert_allclose(space.projected(row, free=[0, 1]), [[0.45, 0.25, 0.3]], atol=1e-12)
    wide = Space(3, (-1.0, 0.5))
    np.testing.assert_array_equal(wide.projected(row, free=[0]), [[0.5, 0.7, 0.3]])
    assert wide.contains_sums([5.0, 5.0, 5.0]) and not space.contains_sums([0.0, 0.0, 0.0])


@pytest.mark.parametrize("adapters", [6, 7, 13, 20, 23])
def test_a_point_of_the_space_stays_to_the_last_bit(adapters: int) -> None:
    space = Space(adapters, (0.0, 1.5), simplex=True)
    np.testing.assert_array_equal(space.projected(space.uniform[None])[0], space.uniform)
