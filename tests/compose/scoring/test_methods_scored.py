"""Every merge method can be scored: as the adapter that `merge` makes of the same weights, alone or in one batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compose.examples import Examples
from compose.merge import merge
from compose.method_space import MethodSpace, Setting
from compose.methods import METHODS
from compose.scoring import make_scorer
from compose.scoring.guarded import GuardedScorer
from compose.scoring.settled import SettledScorer

PAIR = np.array([[0.6, 0.4], [1.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize("name", ["t5", "bert"])
def test_a_batch_over_all_methods_scores_as_merging_and_scoring_one_at_a_time(
    families: Any, examples: Examples, name: str
) -> None:
    family = families[name]
    base = family.base()
    pair = family.adapters(base.model, scalings=(1.0,))[:2]
    space = MethodSpace.of(list(METHODS), {"density": (0.4, 0.9)})
    whole = make_scorer(base, examples=examples, adapters=pair, methods=space)
    rows = np.concatenate([space.widened(PAIR, way) for way in space.starts])
    together = whole.example_losses(rows).reshape(len(space.starts), len(PAIR), len(examples))
    for way, losses in zip(space.starts, together, strict=True):
        alone = make_scorer(base, examples=examples, adapters=pair, method=way.method, params=way.params)
        np.testing.assert_allclose(alone.example_losses(PAIR), losses, rtol=0, atol=1e-9, err_msg=way.method)
        for weights, row in zip(PAIR.tolist(), losses, strict=True):
            merged = merge(pair, weights, method=way.method, **way.params).adapter
            truth = make_scorer(base, examples=examples, adapters=[merged], method="exact")
            np.testing.assert_allclose(truth.example_losses(np.ones((1, 1)))[0], row, rtol=0, atol=1e-8)


def test_a_scorer_settled_on_a_method_takes_weights_again_also_under_a_guard(families: Any, examples: Examples) -> None:
    base = families["t5"].base()
    pair = families["t5"].adapters(base.model, scalings=(1.0,))[:2]
    space = MethodSpace.of(["exact", "ties"], {"density": (0.4, 0.9)})
    whole = make_scorer(base, examples=examples, adapters=pair, methods=space)
    way = Setting("ties", {"density": 0.7})
    settled = SettledScorer(whole, space, way)
    truth = make_scorer(base, examples=examples, adapters=pair, method="ties", params={"density": 0.7})
    np.testing.assert_allclose(settled.example_losses(PAIR), truth.example_losses(PAIR), rtol=0, atol=1e-9)
    assert settled.predictions(PAIR) == truth.predictions(PAIR)
    assert (settled.method, settled.adapter_names) == ("ties", truth.adapter_names)
    guarded, rows = GuardedScorer(whole, whole), space.widened(PAIR, way)
    base_loss = truth.example_losses(PAIR[2:]).mean()
    means = guarded.means(rows)
    np.testing.assert_allclose(means[:, 0], truth.example_losses(PAIR).mean(axis=1), rtol=0, atol=1e-9)
    assert ((guarded.example_losses(rows).mean(axis=1) > base_loss) == (means[:, 1] > base_loss * (1 + 1e-5))).all()
