"""Weights by globs over modules are those of a merge done group by group."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from compose.adapter import LoraAdapter
from compose.errors import BadWeights
from compose.merge import merge

Make = Callable[..., LoraAdapter]


def test_the_first_glob_that_matches_counts(random_adapter: Make) -> None:
    paths = ("layers.0.q", "layers.1.q", "layers.1.v")
    one, two = random_adapter(1, paths=paths), random_adapter(2, paths=paths)
    weights = {"layers.0.*": 0.25, "*.q": -0.5, "*": 2.0}
    mixed = merge([one, two], [weights, 1.0], method="exact")
    for path, weight in zip(paths, (0.25, -0.5, 2.0), strict=True):
        expected = weight * one.modules[path].delta() + two.modules[path].delta()
        torch.testing.assert_close(mixed.adapter.modules[path].delta(), expected)
    assert mixed.report.weights == (2.0, 1.0)


@pytest.mark.parametrize(
    "weight", [{}, {"a": 1.0}, {"*": 1.0, "a": 2.0}, {"a": float("nan"), "*": 1.0}, {"*": "1"}, {"*": True}]
)
def test_globs_must_cover_all_and_numbers_be_finite(random_adapter: Make, weight: dict[str, float]) -> None:
    with pytest.raises(BadWeights, match="adapter-1"):
        merge([random_adapter(1)], [weight])
