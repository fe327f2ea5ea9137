"""The preset against LoRAHub's loop written down independently, on the same scorer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import nevergrad as ng
import numpy as np
import pytest
from numpy.typing import NDArray

from compose.search import search


@dataclass
class Bumpy:
    """A loss with several valleys, so that a point that differs shows."""

    targets: NDArray[np.float64]
    method: str = "lorahub"
    method_params: Mapping[str, object] = field(default_factory=lambda: {"fold": "lorahub-compat"})

    @property
    def adapter_names(self) -> tuple[str, ...]:
        return tuple("abcdefghijklmnopqrstuvwxyz"[: self.targets.shape[1]])

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return np.array([3, 1, 7, 2, 5])

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        distance = weights[:, None] - self.targets[None]
        return (distance**2 + 0.3 * np.sin(5 * distance) + 0.3).sum(-1)

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        raise NotImplementedError


def reference_search(scorer: Bumpy, *, budget: int, seed: int) -> tuple[NDArray[np.float64], list[tuple[float, ...]]]:
    """LoRAHub's `lorahub_learning`: nevergrad's own loop over token-weighted mean loss / examples + 0.05 mean|w|."""
    asked: list[tuple[float, ...]] = []

    def score(weights: NDArray[np.float64]) -> float:
        asked.append(tuple(weights))
        losses, counts = scorer.example_losses(weights[None])[0], scorer.token_counts
        batch_loss = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
        return float(batch_loss / len(losses) + 0.05 * sum(abs(w) for w in weights) / len(weights))

    count = scorer.targets.shape[1]
    instrumentation = ng.p.Array(init=[0] * count, lower=[-1.5] * count, upper=[1.5] * count)
    instrumentation.random_state.seed(seed)
    optimizer = ng.optimizers.NGOpt(parametrization=instrumentation, budget=budget)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recommendation = optimizer.minimize(score)
    return recommendation.value, asked


@pytest.mark.parametrize(("adapters", "budget"), [(3, 40), (12, 40), (20, 40), (20, 150), (2, 150)])
@pytest.mark.parametrize("seed", [0, 42])
def test_the_preset_asks_and_returns_what_the_reference_does(adapters: int, budget: int, seed: int) -> None:
    scorer = Bumpy(np.random.default_rng(adapters).uniform(-1, 1, (5, adapters)))
    expected, asked = reference_search(scorer, budget=budget, seed=seed)
    result = search(scorer.adapter_names, scorer, preset="lorahub", budget=budget, seed=seed)
    asks = [trial.weights for trial in result.trials if trial.kind == "ask"]
    np.testing.assert_allclose(asks, asked, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.weights, expected, rtol=0, atol=1e-9)
    assert len(asks) == budget and (adapters == 2 or asks[0] == (0.0,) * adapters)  # for 2 x 150 NGOpt picks MetaModel
    assert (result.baselines, result.fell_back, result.optimizer) == (None, None, "NGOpt")
    losses, counts = scorer.example_losses(np.array([result.weights]))[0], scorer.token_counts
    assert result.loss == pytest.approx((losses * counts).sum() / counts.sum() / 5, abs=1e-12)


@pytest.mark.parametrize("stop", [1, 20, 39])
def test_a_stopped_preset_search_resumes_exactly(stop: int) -> None:
    scorer = Bumpy(np.random.default_rng(1).uniform(-1, 1, (5, 4)))
    whole = search(scorer.adapter_names, scorer, preset="lorahub", seed=5)
    resumed = search(scorer.adapter_names, scorer, preset="lorahub", seed=5, replay=whole.trials[:stop])
    assert resumed == whole
