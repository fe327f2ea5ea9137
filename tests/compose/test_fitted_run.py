"""The default search in worlds whose truth is known: it finds what helps, and keeps the base where nothing does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compose.search import search
from compose.trials import SearchResult

Floats = NDArray[np.float64]


@dataclass
class World:
    """Example e has the log-odds `base[e] + w @ slopes[:, e]`, so that fresh examples can judge what was found."""

    slopes: Floats  # (N, E)
    base: Floats  # (E,)
    names: tuple[str, ...] = ()
    method: str = "exact"
    method_params: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def drawn(cls, effects: list[float], *, examples: int = 16, seed: int = 0, spread: float = 1.0) -> World:
        """Adapter i changes an example's log-odds by `effects[i]`, more or less."""
        random = np.random.default_rng(seed)
        slopes = np.array(effects)[:, None] + random.normal(0, spread, (len(effects), examples))
        return cls(slopes, random.normal(0.3, 0.5, examples))

    @property
    def adapter_names(self) -> tuple[str, ...]:
        return self.names or tuple(f"a{i}" for i in range(len(self.slopes)))

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return np.ones(len(self.base), dtype=np.int64)

    def example_losses(self, weights: Floats) -> Floats:
        return np.asarray(np.logaddexp(0, -(self.base + weights @ self.slopes)))

    def losses_and_gradients(self, weights: Floats) -> tuple[Floats, Floats]:
        losses = self.example_losses(weights)
        return losses, -(1 - np.exp(-losses)) @ self.slopes.T / losses.shape[1]

    def predictions(self, weights: Floats) -> list[list[str]]:
        raise NotImplementedError


def found(world: World, **options: Any) -> SearchResult:
    return search(world.adapter_names, world, **options)


def true_loss(effects: list[float], weights: tuple[float, ...]) -> float:
    return float(World.drawn(effects, examples=4000, seed=99).example_losses(np.array([weights])).mean())


def test_where_every_adapter_harms_the_base_is_kept_and_said() -> None:
    for seed in range(3):
        result = found(World.drawn([-1.0] * 8, seed=seed))
        assert result.fell_back == "base" and set(result.weights) == {0.0}
        assert result.gate is not None and result.gate.sentence in result.notes
        assert "no evidence of a gain" in result.gate.sentence


def test_where_one_adapter_is_the_answer_it_is_found() -> None:
    effects = [-0.7, -0.7, -0.7, 2.5, -0.7, -0.7, -0.7, -0.7]
    for seed in range(3):
        result = found(World.drawn(effects, seed=seed))
        assert int(np.argmax(result.weights)) == 3 and result.weights[3] > 0.4
        assert true_loss(effects, result.weights) < 0.6 * true_loss(effects, (0.0,) * 8)


def test_a_mix_of_adapters_that_each_help_a_little_is_better_than_any_of_them() -> None:
    effects = [0.8, 0.8, 0.8, 0.8, 0.0, 0.0]
    result = found(World.drawn(effects, examples=32))
    assert result.fell_back is None
    singles = [true_loss(effects, tuple(row)) for row in np.eye(6)]
    assert true_loss(effects, result.weights) < min(singles)


@pytest.mark.parametrize("options", [{}, {"bounds": (0.0, 0.3)}, {"bounds": (-0.5, 0.5)}, {"simplex": True}])
def test_every_mix_that_is_tried_is_within_the_space(options: dict[str, Any]) -> None:
    result = found(World.drawn([0.5, 1.0, -0.5, 0.2]), **options)
    low, high = options.get("bounds", (0.0, 1.5))
    tried = [trial.weights for trial in result.trials if trial.kind in ("ask", "fold")]
    assert tried and all(low <= weight <= high for weights in tried for weight in weights)
    if options.get("simplex"):
        assert all(sum(weights) == pytest.approx(1, abs=0.003) for weights in tried)


def test_the_order_of_the_adapters_does_not_change_what_is_found() -> None:
    world, turned = World.drawn([0.5, 1.2, -0.5, 0.2]), [2, 0, 3, 1]
    other = World(world.slopes[turned], world.base, tuple(world.adapter_names[i] for i in turned))
    one, two = (found(w).weights for w in (world, other))
    np.testing.assert_allclose(np.array(one)[turned], two, atol=0.02)


@pytest.mark.parametrize(("adapters", "budget"), [(8, 40), (8, 18), (8, 14), (28, 40)])
def test_where_nothing_helps_noise_is_seldom_kept_and_costs_little(adapters: int, budget: int) -> None:
    """Whatever the budget leaves for estimates. What is kept then is mostly a uniform mix, never far from the base."""
    nothing = [0.0] * adapters
    results = [found(World.drawn(nothing, seed=seed), budget=budget, seed=seed) for seed in range(20)]
    assert all(result.gate is not None and result.evaluations <= budget for result in results)
    assert sum(result.fell_back is None for result in results) <= 4
    harm = [true_loss(nothing, result.weights) - true_loss(nothing, (0.0,) * adapters) for result in results]
    assert np.mean(harm) < 0.03


def test_a_budget_for_one_fit_makes_the_cautious_one() -> None:
    effects = [1.0] * 8
    result = found(World.drawn(effects), budget=18)
    assert result.gate is not None and result.gate.kept == "the cautious mix" and result.evaluations <= 18
    assert true_loss(effects, result.weights) < true_loss(effects, (0.0,) * 8)
    whole = found(World.drawn(effects), budget=40)
    assert whole.gate is not None and "the bold mix" in [one.name for one in whole.gate.estimates]


def test_a_budget_without_held_out_fits_is_judged_by_choosing_again_among_its_trials() -> None:
    result = found(World.drawn([1.5, 1.2, 0.0], examples=32), budget=7)
    assert result.gate is not None and result.evaluations <= 7 and result.gate.kept_is_hopeful


def test_a_mix_that_is_one_of_the_adapters_is_called_by_its_name() -> None:
    """On the simplex the answer may be one adapter: then that is what was kept, and nothing was better."""
    result = found(World.drawn([4.0, -2.0]), simplex=True)
    assert result.gate is not None and result.weights == (1.0, 0.0)
    assert (result.gate.kept, result.fell_back) == ("a0", "a0")


def test_what_was_there_before_may_lie_outside_the_bounds_and_this_is_said() -> None:
    result = found(World.drawn([2.0, -1.0]), bounds=(-1.0, 0.1), budget=20)
    assert result.fell_back == "a0" and any("outside the bounds -1 to 0.1" in note for note in result.notes)


def test_fewer_examples_than_weights_are_warned_of() -> None:
    assert any(
        "fewer examples (4) than weights (6)" in note for note in found(World.drawn([0.3] * 6, examples=4)).notes
    )
    assert not any("fewer examples" in note for note in found(World.drawn([0.3] * 3)).notes)


def test_gradient_steps_lower_the_objective_and_are_judged_by_the_same_gate() -> None:
    result = found(World.drawn([0.8, 1.0, -0.5, 0.0]), optimizer="adam")
    asks = [trial.objective for trial in result.trials if trial.kind == "ask"]
    assert result.baselines is not None and result.gate is not None
    assert min(asks) < min(trial.objective for trial in result.trials if trial.kind != "ask")
    assert all(0 <= weight <= 1.5 for trial in result.trials for weight in trial.weights)


def test_a_scorer_that_cannot_run_backward_is_told_so() -> None:
    class Forward:
        adapter_names, token_counts, method, method_params = ("a",), np.ones(2, dtype=int), "exact", {}

        def example_losses(self, weights: Floats) -> Floats:
            return np.ones((len(weights), 2))

    with pytest.raises(Exception, match="cannot run backward") as caught:
        search(["a"], Forward(), optimizer="adam")  # type: ignore[arg-type]
    assert "--optimizer fit" in str(caught.value)


@dataclass
class Clashing(World):
    """Adapters undo each other where there is much of two of them, which no fit to single adapters foresees."""

    def example_losses(self, weights: Floats) -> Floats:
        pairs = (weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)) / 2
        lost = 40 * np.maximum(0, np.abs(pairs) - 0.3)
        return np.asarray(np.logaddexp(0, -(self.base + weights @ self.slopes - lost[:, None])))


def test_what_cobyla_finds_where_the_fit_disappoints_is_called_hopeful_and_must_exceed_chance() -> None:
    """Its trials were asked for with all examples in view, and there are no fits without some of them."""
    kept = {}
    for name, effects in (("noise", [0.0] * 8), ("helpful", [1.0] * 3 + [-0.5] * 5)):
        results = [found(Clashing.drawn(effects, seed=seed), seed=seed) for seed in range(8)]
        for gate in (result.gate for result in results):
            assert gate is not None and [e.hopeful for e in gate.estimates if e.name == "the bold mix"] == [True]
        kept[name] = [r.gate.sentence for r in results if r.gate is not None and r.gate.kept == "the bold mix"]
        assert all(any("so that Cobyla went on, over the weights of" in note for note in r.notes) for r in results)
    assert len(kept["noise"]) <= 1 and len(kept["helpful"]) >= 3
    assert all("hopeful, as its trials were asked for with them" in sentence for sentence in kept["helpful"])
