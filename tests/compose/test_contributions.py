"""Leaving one adapter out: what it is worth is known beforehand here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from compose.contributions import explain


class KnownScorer:
    """Example e has the loss |target_e - sum w_i * effect_i|; it notes every batch."""

    method, method_params = "exact", {}

    def __init__(self, effects: Mapping[str, float], targets: list[float]) -> None:
        self.adapter_names = tuple(effects)
        self._effects, self._targets = np.array(list(effects.values())), np.array(targets)
        self.token_counts = np.ones(len(targets), dtype=np.int64)
        self.batches: list[int] = []

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        self.batches.append(len(weights))
        return np.abs(self._targets[None, :] - (weights @ self._effects)[:, None])

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        raise NotImplementedError


def test_an_adapter_is_worth_what_the_loss_rises_by_without_it_and_a_harmful_one_is_negative() -> None:
    scorer = KnownScorer({"good": 1.0, "idle": 0.0, "bad": -1.0, "absent": 5.0}, targets=[2.0, 4.0])
    found = explain(scorer, [1.0, 1.0, 0.5, 0.0])
    by_name = {one.name: one for one in found.contributions}
    assert [one.name for one in found.contributions] == ["good", "idle", "bad"]
    assert by_name["good"].gain == pytest.approx(1.0) and by_name["good"].loss_without == pytest.approx(3.5)
    assert by_name["bad"].gain == pytest.approx(-0.5) and by_name["bad"].negative
    assert by_name["idle"].gain == 0 and not by_name["idle"].negative
    assert by_name["good"].error == pytest.approx(0.0), "it helps both examples by the same"


def test_all_is_scored_as_one_batch_and_counted() -> None:
    scorer = KnownScorer({"a": 1.0, "b": 2.0}, targets=[1.0, 2.0, 3.0])
    found = explain(scorer, [0.5, 0.5], compared={"base": [0.0, 0.0], "best single": [0.0, 1.0]})
    assert scorer.batches == [5] and found.evaluations == 5
    assert found.example_losses == {"mix": (0.5, 0.5, 1.5), "base": (1.0, 2.0, 3.0), "best single": (1.0, 0.0, 1.0)}


def test_one_example_has_no_error_and_a_mix_of_nothing_no_contributions() -> None:
    scorer = KnownScorer({"a": 1.0, "b": 2.0}, targets=[1.0])
    assert [one.error for one in explain(scorer, [1.0, 0.0]).contributions] == [None]
    assert explain(scorer, [0.0, 0.0]).contributions == ()
