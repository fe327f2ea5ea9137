"""A search in a coarse format ends in float32: who decides, and that no choice made there is worse than a baseline."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from compose.finalists import rescored, spearman
from compose.objective import default_objective
from compose.search import search

NAMES = ("a", "b", "c")
OBJECTIVE = default_objective()


class Bowl:
    """Losses of a parabola around `best`, seen through `rounding` (a step size), plus what `lie` says."""

    adapter_names = NAMES
    method = "lorahub"
    method_params: Mapping[str, object] = {"fold": "balanced", "align": "none"}  # a protocol's property

    def __init__(self, best: tuple[float, ...], rounding: float = 0.0) -> None:
        self.best, self.rounding, self.asked = np.array(best), rounding, 0

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return np.ones(4, dtype=np.int64)

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        self.asked += len(weights)
        losses = ((weights - self.best) ** 2).sum(1)
        if self.rounding:
            losses = np.round(losses / self.rounding) * self.rounding
        return np.stack([losses] * 4, axis=1)

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        raise NotImplementedError


def test_the_choice_is_the_best_finalist_in_float32() -> None:
    found = search(NAMES, Bowl((0.5, 0.4, 0.1), rounding=0.3), budget=30, seed=1, optimizer="Cobyla", gate=False)
    fine = Bowl((0.5, 0.4, 0.1))
    decided = rescored(found, fine, OBJECTIVE, coarse="bfloat16")
    assert fine.asked < 15
    own = OBJECTIVE.reduce(fine.example_losses(np.array([decided.weights])), fine.token_counts)[0]
    assert decided.loss == pytest.approx(own)
    before = OBJECTIVE.reduce(fine.example_losses(np.array([found.weights])), fine.token_counts)[0]
    assert decided.objective <= before + OBJECTIVE.penalties(np.array([found.weights]), 4)[0]
    assert decided.trials == found.trials
    assert "Searched in bfloat16" in decided.notes[-1] and "which decided" in decided.notes[-1]
    assert "held-out examples and all intervals are in bfloat16" in decided.notes[-1]


def test_what_held_out_examples_chose_stays_and_the_note_says_so() -> None:
    found = search(NAMES, Bowl((0.5, 0.4, 0.1), rounding=0.3), budget=30, seed=1)
    assert found.gate is not None and not found.gate.kept_is_hopeful, "as in the default search"
    fine = Bowl((-1.0, -1.0, -1.0))  # where all that was found is worse than the base
    decided = rescored(found, fine, OBJECTIVE, coarse="bfloat16")
    assert (decided.weights, decided.fell_back) == (found.weights, found.fell_back)
    assert decided.loss == OBJECTIVE.reduce(fine.example_losses(np.array([found.weights])), fine.token_counts)[0]
    assert "the choice is by those in bfloat16" in decided.notes[-1] and "which decided" not in decided.notes[-1]


def test_a_choice_that_is_worse_than_a_baseline_in_float32_is_not_kept() -> None:
    found = search(NAMES, Bowl((0.5, 0.4, 0.1)), budget=30, seed=1, optimizer="Cobyla")
    assert found.fell_back is None
    decided = rescored(found, Bowl((1.0, 0.0, 0.0)), OBJECTIVE, coarse="bfloat16")
    assert decided.weights == (1.0, 0.0, 0.0) and decided.fell_back == "a"
    assert decided.baselines is not None and decided.loss == decided.baselines.lowest_loss == 0


def test_a_format_that_ranks_the_other_way_round_is_said() -> None:
    found = search(NAMES, Bowl((1.0, 0.0, 0.0)), budget=12, seed=1, optimizer="Cobyla")
    note = rescored(found, Bowl((0.0, 0.0, 1.0)), OBJECTIVE, coarse="bfloat16").notes[-1]
    same = rescored(found, Bowl((1.0, 0.0, 0.0)), OBJECTIVE, coarse="bfloat16").notes[-1]
    assert "agree with 1.00" in same and "agree with 1.00" not in note


def test_spearman_is_about_ranks_and_shares_ties() -> None:
    assert spearman(np.array([1.0, 2, 3]), np.array([1.0, 4, 900])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert spearman(np.array([1.0, 1, 2]), np.array([1.0, 2, 3])) == pytest.approx(np.sqrt(3) / 2)
    assert spearman(np.array([1.0, 1]), np.array([5.0, 6])) == 1
    assert spearman(np.array([5.0, 6]), np.array([np.inf, np.inf])) == 1
    assert spearman(np.array([2.0]), np.array([3.0])) == 1
    assert spearman(np.array([1.0, 2, np.inf]), np.array([1.0, 2, 3])) == pytest.approx(1)
