"""Searches that ask for their trials with all examples in view fall back where nothing helps, and find what does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compose.adam_run import STEP
from compose.errors import SearchError
from compose.gate import CONFIDENCE, decide, exceeds_chance
from compose.judged_run import BASE, FOUND
from compose.nevergrad_run import check_reach
from compose.prior import Prior
from compose.scoring.guarded import GuardedScorer
from compose.scoring.protocol import Scorer
from compose.scoring.tie_break import with_tie_break
from compose.search import DESCENT_STRENGTH, finish, search
from compose.space import Space
from compose.trials import Progress, SearchResult

Floats = NDArray[np.float64]
SEEDS = 20
NOTHING = [0.0] * 8
ONE = [-0.7, -0.7, -0.7, 2.5, -0.7, -0.7, -0.7, -0.7]


@dataclass
class World:
    """Example e has the log-odds `base[e] + w @ slopes[:, e]`. `counted`: the losses are 0 or 1 and a tie-break."""

    slopes: Floats  # (N, E)
    base: Floats  # (E,)
    counted: bool = False
    method: str = "exact"
    method_params: Mapping[str, object] = field(default_factory=dict)
    evaluations: int = 0

    @classmethod
    def drawn(cls, effects: list[float], *, examples: int = 16, seed: int = 0, counted: bool = False) -> World:
        """Adapter i changes an example's log-odds by `effects[i]` on the average, give or take 1."""
        random = np.random.default_rng(seed)
        slopes = np.array(effects)[:, None] + random.normal(0, 1, (len(effects), examples))
        return cls(slopes, random.normal(0.3, 0.5, examples), counted)

    @property
    def adapter_names(self) -> tuple[str, ...]:
        return tuple(f"a{i}" for i in range(len(self.slopes)))

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return np.ones(len(self.base), dtype=np.int64)

    def example_losses(self, weights: Floats) -> Floats:
        self.evaluations += len(weights)
        margins = self.base + weights @ self.slopes
        losses = np.asarray(np.logaddexp(0, -margins))
        return with_tie_break((margins <= 0).astype(np.float64), losses) if self.counted else losses

    def losses_and_gradients(self, weights: Floats) -> tuple[Floats, Floats]:
        losses = self.example_losses(weights)
        self.evaluations -= len(weights)  # a step is one evaluation
        return losses, -(1 - np.exp(-losses)) @ self.slopes.T / losses.shape[1]

    def predictions(self, weights: Floats) -> list[list[str]]:
        raise NotImplementedError


def found(scorer: Scorer, **options: Any) -> SearchResult:
    return search(scorer.adapter_names, scorer, **{"optimizer": "Cobyla", **options})


def true_loss(effects: list[float], weights: tuple[float, ...], *, counted: bool = False) -> float:
    return float(
        World.drawn(effects, examples=4000, seed=99, counted=counted).example_losses(np.array([weights])).mean()
    )


@pytest.mark.parametrize("optimizer", ["Cobyla", "OnePlusOne", "CMA", "adam"])
@pytest.mark.parametrize("examples", [5, 16])
def test_where_nothing_helps_a_mix_that_fits_the_noise_is_not_kept(optimizer: str, examples: int) -> None:
    """Without the gate nearly all of them are, and lose a lot on fresh examples."""
    base = true_loss(NOTHING, (0.0,) * 8)
    gated, fitted = [], []
    for seed in range(SEEDS):
        world = World.drawn(NOTHING, examples=examples, seed=seed)
        gated.append(found(world, optimizer=optimizer, seed=seed))
        fitted.append(found(world, optimizer=optimizer, seed=seed, gate=False))
    assert sum(result.fell_back is None for result in gated) <= 4
    assert sum(result.fell_back is None for result in fitted) >= 10
    harm = [np.mean([true_loss(NOTHING, one.weights) - base for one in results]) for results in (gated, fitted)]
    assert harm[0] < 0.7 * harm[1] and (optimizer == "adam" or harm[0] < 0.35 * harm[1])


@pytest.mark.parametrize("counted", [False, True])
def test_where_one_adapter_is_the_answer_it_is_found(counted: bool) -> None:
    before = true_loss(ONE, (0.0,) * 8, counted=counted)
    for seed in range(5):
        result = found(World.drawn(ONE, seed=seed, counted=counted), seed=seed)
        assert int(np.argmax(result.weights)) == 3 and result.fell_back in ("a3", None)
        assert true_loss(ONE, result.weights, counted=counted) < (0.45 if counted else 0.3) * before


def test_right_answers_by_chance_are_no_evidence() -> None:
    results = [found(World.drawn(NOTHING, seed=seed, counted=True), seed=seed) for seed in range(SEEDS)]
    assert sum(result.fell_back is None for result in results) <= 2
    assert all(result.gate is not None for result in results)


def test_a_mix_that_helps_is_kept_and_the_estimate_is_called_hopeful() -> None:
    result = found(World.drawn([1.5, 1.5, 1.5, -1.0, -1.0, -1.0], seed=1))
    assert result.fell_back is None and result.gate is not None and result.gate.kept == FOUND
    assert "hopeful" in result.gate.sentence and result.gate.sentence in result.notes
    assert [one.name for one in result.gate.estimates if one.hopeful] == [FOUND]


def test_what_a_guard_forbids_is_never_kept() -> None:
    """The one adapter that helps makes the guard rows worse; all others harm."""
    harmful = World.drawn([0.3, 0.3, 0.3, -2.5, 0.3, 0.3, 0.3, 0.3], seed=50)
    for seed in range(3):
        guarded = GuardedScorer(World.drawn(ONE, seed=seed), harmful)
        result = found(guarded, seed=seed)
        assert result.gate is not None and result.weights[3] < 0.3
        guard = harmful.example_losses(np.array([result.weights, (0.0,) * 8])).mean(axis=1)
        assert guard[0] <= guard[1] * (1 + 1e-5)


def test_the_uniform_mix_of_the_best_takes_one_evaluation_of_the_budget_and_may_be_kept() -> None:
    helps = [0.9] * 5 + [-2.0] * 5
    world = World.drawn(helps, examples=32, seed=3)
    result = found(world, budget=20)
    assert result.evaluations == world.evaluations <= 20
    [top] = [trial for trial in result.trials if trial.kind == "top"]
    assert top.number == 13 and top.weights == (0.2,) * 5 + (0.0,) * 5
    assert result.gate is not None and result.gate.estimates[-1].name != FOUND
    estimates = {one.name: one.loss for one in result.gate.estimates}
    assert estimates["the uniform mix of the 5 best"] < estimates[BASE]
    without = found(World.drawn(helps, examples=32, seed=3), budget=20, top=0)
    assert not any(trial.kind == "top" for trial in without.trials)
    assert not any(trial.kind == "top" for trial in found(World.drawn([0.5] * 5)).trials), "uniform is the same mix"
    alone = found(world, budget=15)  # nothing is left to search
    assert (alone.fell_back, alone.weights) == ("top", top.weights) and not any(t.kind == "ask" for t in alone.trials)


def test_one_example_leaves_nothing_to_hold_out_and_this_is_said() -> None:
    result = found(World.drawn([1.0, 0.5], examples=1))
    assert result.gate is None and any("one example only" in note for note in result.notes)
    assert result.baselines is not None and result.loss <= result.baselines.lowest_loss


def test_without_the_gate_the_few_shot_loss_decides() -> None:
    result = found(World.drawn(NOTHING), gate=False)
    assert result.gate is None and result.fell_back is None
    assert result.loss == min(t.loss for t in result.trials if t.objective <= result.objective)


def stop_after(count: int) -> Callable[[Progress], None]:
    def on_trial(progress: Progress) -> None:
        if progress.evaluations >= count:
            raise KeyboardInterrupt

    return on_trial


@pytest.mark.parametrize("optimizer", ["fit", "adam", "Cobyla"])
def test_a_stopped_search_and_a_finished_one_are_judged_by_what_was_scored(optimizer: str) -> None:
    for seed in range(5):
        world = World.drawn(NOTHING, seed=seed)
        stopped = found(world, optimizer=optimizer, on_trial=stop_after(14))
        assert stopped.stopped and stopped.gate is not None and stopped.gate.sentence in stopped.notes
        assert stopped.evaluations == len(stopped.trials) == world.evaluations
        options: dict[str, Any] = {"method": "exact", "budget": 40, "optimizer": optimizer}
        done = finish(world.adapter_names, stopped.trials, **options)
        assert (done.gate, done.weights, done.fell_back) == (stopped.gate, stopped.weights, stopped.fell_back)
        assert done.gate is not None and done.gate.sentence in done.notes
        if seed == 0:
            assert done.fell_back is not None, "noise was fitted"


def test_a_search_stopped_after_its_baselines_is_judged_too() -> None:
    stopped = found(World.drawn(ONE), on_trial=stop_after(1))
    assert len(stopped.trials) == 10 and stopped.gate is not None and stopped.fell_back == "a3"
    noise = found(World.drawn([-1.0] * 8), on_trial=stop_after(1))
    assert noise.fell_back == "base" and "no evidence of a gain" in noise.notes[0]


def test_trials_stored_without_example_losses_are_chosen_by_the_few_shot_loss() -> None:
    whole = found(World.drawn(ONE), gate=False, top=0)
    old = [replace(trial, example_losses=None) for trial in whole.trials]
    done = finish(whole.adapter_names, old, method="exact", budget=40, optimizer="Cobyla", top=0)
    assert done.gate is None and done.weights == whole.weights
    assert any("without the losses of single examples" in note for note in done.notes)


def test_the_preset_returns_what_it_did_and_tells_whether_there_is_evidence() -> None:
    told = []
    for seed in range(SEEDS):
        world = World.drawn(NOTHING, seed=seed, examples=5)
        world.method, world.method_params = "lorahub", {"fold": "lorahub-compat"}
        result = found(world, optimizer=None, preset="lorahub", seed=seed)
        bare = found(world, optimizer=None, preset="lorahub", seed=seed, gate=False)
        assert replace(result, gate=None, notes=bare.notes) == bare and bare.gate is None
        assert result.gate is not None and result.gate.kept == FOUND and result.gate.sentence in result.notes
        told.append("no evidence of a gain" in result.gate.sentence)
        assert {one.name for one in result.gate.estimates} == {FOUND, BASE}
    assert sum(told) >= 15
    world = World.drawn(ONE, seed=2)
    world.method, world.method_params = "lorahub", {"fold": "lorahub-compat"}
    helped = found(world, optimizer=None, preset="lorahub", budget=100)
    assert helped.gate is not None and "as the preset does in any case" in helped.gate.sentence


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gate": False, "optimizer": "fit"}, "always holds examples out"),
        ({"top": -1}, "top is -1"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], said: str) -> None:
    world = World.drawn([1.0, 0.5])
    with pytest.raises(SearchError, match=said):
        found(world, **options)
    assert world.evaluations == 0


def test_adam_takes_the_published_steps_within_the_bounds() -> None:
    world = World.drawn([2.0, 0.4, -1.0], seed=3)
    result = found(world, optimizer="adam", budget=40, gate=False)
    asks = [trial for trial in result.trials if trial.kind == "ask"]
    start = min(result.trials[1:5], key=lambda trial: (trial.objective, trial.number)).weights
    weights, mean, square = np.array(start), np.zeros(3), np.zeros(3)
    prior = Prior(DESCENT_STRENGTH)
    assert len(asks) > 20
    for step, trial in enumerate(asks, start=1):
        gradient = world.losses_and_gradients(weights[None])[1][0] + prior.gradient(weights) / len(world.base)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        moved = STEP * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        weights = np.clip(weights - moved, 0.0, 1.5)
        np.testing.assert_allclose(trial.weights, weights, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ["svd", "ties", "peft-linear"])
def test_gradients_of_a_method_that_has_none_are_refused_before_anything_is_scored(method: str) -> None:
    world = World.drawn([1.0, 0.5])
    world.method = method
    with pytest.raises(SearchError, match=f"mixes by the method {method} do not have") as caught:
        found(world, optimizer="adam")
    assert "--optimizer fit" in caught.value.remedy and "--method exact or lorahub" in caught.value.remedy
    assert world.evaluations == 0


def test_the_best_of_many_directions_through_noise_seldom_exceeds_what_chance_allows() -> None:
    """Of gains g @ w with g of mean 0, the direction w of the sample's own mean is taken, as an optimizer would."""
    random = np.random.default_rng(0)
    for weights, examples in ((1, 5), (3, 16), (12, 16), (20, 64)):
        draws = random.normal(size=(400, examples, weights))
        gains = [g @ g.mean(axis=0) for g in draws]
        passed = np.mean([exceeds_chance(one, weights, CONFIDENCE) for one in gains])
        assert passed <= 0.13 < np.mean([exceeds_chance(one, 1, CONFIDENCE) for one in gains]) + 0.1
        assert np.mean([exceeds_chance(one, weights, 0.5) for one in gains]) > passed


def test_without_any_mix_the_gate_is_about_what_is_simple() -> None:
    ones = np.ones(8)
    assert decide([], "base", {"base": ones, "single": ones - 0.5}, folds=4).kept == "single"
    nothing = decide([], "base", {"base": ones, "single": ones + 0.5}, folds=4)
    assert nothing.kept == "base" and "single has a loss of 1.500" in nothing.sentence


@pytest.mark.parametrize("optimizer", ["Cobyla", "OnePlusOne", "CMA", "NGOpt", "adam"])
@pytest.mark.parametrize("scale", [None, (0.5, 1.4)])
def test_on_the_simplex_all_that_is_asked_for_adds_up_and_the_best_share_is_found(
    optimizer: str, scale: tuple[float, float] | None
) -> None:
    low, high = scale or (1.0, 1.0)
    world = World.drawn([2.0, 2.0, -1.0, -1.0], examples=64, seed=2)
    result = found(world, optimizer=optimizer, simplex=True, scale=scale, budget=60, gate=False)
    asks = np.array([trial.weights for trial in result.trials if trial.kind == "ask"])
    assert len(asks) > 10 and (asks >= 0).all()
    assert (asks.sum(axis=1) >= low - 1e-9).all() and (asks.sum(axis=1) <= high + 1e-9).all()
    share = np.linspace(0, high, 50)
    best = world.example_losses(np.stack([share, high - share, 0 * share, 0 * share], axis=1)).mean(axis=1).min()
    assert result.loss < best + (0.01 if optimizer in ("Cobyla", "adam") else 0.1)


def test_a_budget_that_moves_too_few_adapters_for_the_sum_is_refused_and_the_one_that_is_named_does() -> None:
    space = Space(6, (0.0, 1.5), simplex=True, scale=(4.0, 5.0))
    with pytest.raises(
        SearchError, match=r"lets \d of 6 adapters be searched, whose weights cannot add up to 4"
    ) as caught:
        check_reach(space, 14)
    enough = int(caught.value.remedy.split()[2])
    check_reach(space, enough)
    with pytest.raises(SearchError):
        check_reach(space, enough - 2)
    world = World.drawn([1, 0.8, 0.5, 0.5, 0.5, 0.5], examples=8)
    with pytest.raises(SearchError, match="cannot add up to 4"):
        found(world, simplex=True, scale=(4.0, 5.0), budget=14)
    for trial in found(world, simplex=True, scale=(4.0, 5.0), budget=enough).trials:
        assert trial.kind != "ask" or 4 - 1e-9 < sum(trial.weights) < 5 + 1e-9


@pytest.mark.parametrize("bounds", [(-1.0, 0.0), (0.2, 1.0)])
def test_bounds_that_leave_no_simplex_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(SearchError, match="on the simplex a weight may be 0") as caught:
        found(World.drawn([1.0, 0.5, 0.2]), simplex=True, scale=(0.0, 1.0), bounds=bounds)
    assert "--bounds" in caught.value.remedy
