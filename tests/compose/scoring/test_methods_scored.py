"""Every merge method can be scored: as the adapter that `merge` makes of the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compose.examples import Examples
from compose.merge import merge
from compose.methods import METHODS, find_method
from compose.scoring import make_scorer

PAIR = np.array([[0.6, 0.4], [1.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize("name", ["t5", "bert"])
def test_a_batch_of_any_method_scores_as_merging_and_scoring_one_at_a_time(
    families: Any, examples: Examples, name: str
) -> None:
    base = families[name].base()
    pair = families[name].adapters(base.model, scalings=(1.0,))[:2]
    for method in METHODS:
        params = {"density": 0.65} if "density" in {param.name for param in find_method(method).params} else {}
        together = make_scorer(base, examples=examples, adapters=pair, method=method, params=params)
        for weights, row in zip(PAIR.tolist(), together.example_losses(PAIR), strict=True):
            merged = merge(pair, weights, method=method, **params).adapter
            truth = make_scorer(base, examples=examples, adapters=[merged], method="exact")
            found = truth.example_losses(np.ones((1, 1)))[0]
            np.testing.assert_allclose(found, row, rtol=0, atol=1e-8, err_msg=method)
