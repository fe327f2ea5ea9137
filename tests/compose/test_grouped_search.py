"""A search with a weight per adapter and group: whole baselines, never worse than the best single, and more found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compose.contributions import explain
from compose.errors import SearchError
from compose.group_slopes import FITTING, model_by_groups, partial_rows, split_count
from compose.judged_run import BASE
from compose.margin_model import log_odds
from compose.module_groups import ModuleGroups, column_names
from compose.nevergrad_run import searched_count
from compose.objective import Objective, mean_over_examples
from compose.pareto import tradeoffs
from compose.search import finish, search
from compose.prior import Prior
from compose.space import Space
from compose.trials import Progress, SearchResult

Floats = NDArray[np.float64]
HALVES = ModuleGroups(("lower", "upper"), (("l.*",), ("u.*",)))


@dataclass
class Margins:
    """log-odds of each example = `margins` + row @ `effects` (C, E): what an exact mix is to first order."""

    names: tuple[str, ...]
    effects: Floats
    margins: Floats
    groups: ModuleGroups = HALVES
    method: str = "exact"
    method_params: Mapping[str, object] = field(default_factory=dict)
    calls: list[Floats] = field(default_factory=list)

    @property
    def adapter_names(self) -> tuple[str, ...]:
        return column_names(self.names, self.groups)

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return np.ones(len(self.margins), dtype=np.int64)

    def example_losses(self, weights: Floats) -> Floats:
        self.calls.append(weights.copy())
        return np.logaddexp(0.0, -(self.margins + weights @ self.effects))

    def losses_and_gradients(self, weights: Floats) -> tuple[Floats, Floats]:
        wrong = 1 - np.exp(-self.example_losses(weights))
        return self.example_losses(weights), -(wrong @ self.effects.T) / len(self.margins)

    def predictions(self, weights: Floats) -> list[list[str]]:
        raise NotImplementedError


def helpful_below(adapters: int = 3, *, examples: int = 12, seed: int = 0) -> Margins:
    """Every adapter helps in its lower half and harms as much in its upper half, so that whole it does nothing."""
    random = np.random.default_rng(seed)
    lower = random.uniform(1.0, 3.0, (adapters, 1, examples))
    effects = np.concatenate([lower, -lower], axis=1).reshape(adapters * 2, examples)
    return Margins(tuple(f"a{i}" for i in range(adapters)), effects, random.uniform(-3, -1, examples))


def run(scorer: Margins, **options: Any) -> SearchResult:
    return search(scorer.names, scorer, groups=scorer.groups, **{"budget": 60, **options})


@pytest.mark.parametrize("optimizer", ["fit", "Cobyla", "adam"])
def test_what_only_groups_can_express_is_found(optimizer: str) -> None:
    scorer = helpful_below()
    result = run(scorer, optimizer=optimizer)
    assert result.groups == ("lower", "upper") and len(result.weights) == 6
    assert result.baselines is not None and result.fell_back is None
    assert result.loss < 0.5 * result.baselines.lowest_loss
    for lower, upper in result.by_adapter:
        assert lower - upper > 0.4
    whole = Margins(scorer.names, scorer.effects[::2] + scorer.effects[1::2], scorer.margins)
    whole.groups = ModuleGroups(("all",), (("*",),))
    assert run(whole, optimizer=optimizer).loss > 1.9 * result.loss


@pytest.mark.parametrize("optimizer", ["fit", "Cobyla", "OnePlusOne", "adam"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_baselines_are_whole_adapters_and_nothing_worse_than_them_is_kept(optimizer: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    scorer = Margins(("a", "b", "c"), random.normal(size=(6, 5)), random.normal(size=5))
    result = run(scorer, optimizer=optimizer, seed=seed)
    expected = np.concatenate([np.zeros((1, 3)), np.full((1, 3), 1 / 3), np.eye(3)])
    np.testing.assert_array_equal(scorer.calls[0], np.repeat(expected, 2, axis=1))
    assert [trial.kind for trial in result.trials[:5]] == ["base", "uniform", *["single"] * 3]
    assert result.baselines is not None and result.baselines.best_single_name in ("a", "b", "c")
    assert result.evaluations <= 60 and len(result.searched) == 3
    if result.gate is None:
        assert result.loss <= result.baselines.lowest_loss
    else:
        estimates = {one.name: one.loss for one in result.gate.estimates}
        assert estimates[result.gate.kept] <= estimates[BASE]


def test_a_whole_single_that_is_the_answer_is_kept_by_its_adapters_name() -> None:
    effects = np.zeros((6, 10))
    effects[2:4] = 3.0
    effects[[0, 1, 4, 5]] = -3.0
    result = run(Margins(("a", "b", "c"), effects, np.full(10, -2.0)), bounds=(0.0, 1.0), optimizer="Cobyla", l1=0.0)
    assert result.fell_back == "b" and result.weights == (0, 0, 1, 1, 0, 0)


def test_groups_that_do_the_same_are_searched_as_if_there_were_none() -> None:
    """Prior and slopes are shared out evenly: the fit of halves that are alike is the fit of the whole."""
    random = np.random.default_rng(5)
    effects, margins = random.normal(size=(4, 9)), random.normal(size=9)
    halves = Margins(tuple("abcd"), np.repeat(effects / 2, 2, axis=0), margins)
    one = ModuleGroups(("all",), (("*",),))
    with_groups = run(halves, budget=80)
    without = run(Margins(tuple("abcd"), effects, margins, groups=one), budget=80)
    np.testing.assert_allclose(with_groups.weights, np.repeat(without.weights, 2), atol=0.03)
    assert with_groups.objective == pytest.approx(without.objective, abs=2e-3)


def test_the_slopes_of_an_adapter_s_groups_add_up_to_the_whole_one_s() -> None:
    random = np.random.default_rng(3)
    effects, margins = random.normal(size=(6, 4)), random.normal(size=4)
    scorer = Margins(("a", "b"), effects, margins, groups=ModuleGroups(("1", "2", "3"), (("1",), ("2",), ("3",))))
    singles = scorer.example_losses(np.repeat(np.eye(2), 3, axis=1))
    rows = partial_rows([1], 2, 3)
    np.testing.assert_array_equal(rows, [[0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 0]])
    base = scorer.example_losses(np.zeros((1, 6)))[0]
    model = model_by_groups(base, singles, {1: scorer.example_losses(rows)}, 3)
    np.testing.assert_allclose(model.slopes[3:], effects[3:], atol=1e-9)
    np.testing.assert_allclose(model.slopes[:3], np.repeat(effects[:3].mean(axis=0)[None], 3, axis=0), atol=1e-9)
    np.testing.assert_allclose(model.margins, margins, atol=1e-9)
    np.testing.assert_allclose(log_odds(model.predicted(np.ones(6))), margins + effects.sum(axis=0), atol=1e-9)


def test_a_small_budget_looks_at_the_best_adapters_in_parts_and_one_too_small_is_refused() -> None:
    scorer = helpful_below(4)
    budget = 4 + 2 + FITTING + 2
    result = run(scorer, budget=budget)
    assert split_count(4, 2, budget) == 2 == sum(trial.kind == "part" for trial in result.trials)
    losses = [trial.loss for trial in result.trials[2:6]]
    parts = [trial.weights for trial in result.trials if trial.kind == "part"]
    assert parts == [tuple(float(j == 2 * i) for j in range(8)) for i in np.argsort(losses, kind="stable")[:2]]
    assert any("2 of 4 adapters be looked at group by group; --budget 30 looks" in note for note in result.notes)
    with pytest.raises(SearchError, match="--budget 27 looks at the best adapter in parts, 30 at all"):
        run(scorer, budget=26)
    assert run(scorer, budget=6, optimizer="Cobyla").evaluations == 6
    assert searched_count(4, 6 + 2 * (2 * 2 + 1), 2) == 2 and searched_count(4, 6 + 2 * (2 * 2 + 1) - 1, 2) == 1


@pytest.mark.parametrize("optimizer", ["fit", "Cobyla", "adam"])
def test_a_replayed_search_scores_nothing_again_and_a_stopped_one_can_be_finished(optimizer: str) -> None:
    scorer = helpful_below()
    whole = run(scorer, optimizer=optimizer)
    scorer.calls.clear()
    if optimizer != "adam":  # which has no gradients of stored trials
        assert run(scorer, optimizer=optimizer, replay=whole.trials) == whole and scorer.calls == []
    done = finish(
        scorer.names, whole.trials[:20], method="exact", budget=60, optimizer=optimizer, groups=scorer.groups
    )  # fmt: skip
    best = [trial.objective for trial in whole.trials[:20] if trial.kind != "fold"]
    assert done.groups == ("lower", "upper") and done.objective == min(best)


def test_an_adapter_is_left_out_with_all_of_its_groups() -> None:
    scorer = helpful_below(2)
    found = explain(scorer, [1.0, 0.0, 0.5, 0.25], names=scorer.names)
    np.testing.assert_array_equal(scorer.calls[-1], [[1, 0, 0.5, 0.25], [0, 0, 0.5, 0.25], [1, 0, 0, 0]])
    assert {one.name: one.weight for one in found.contributions} == {"a0": 0.5, "a1": 0.375}
    assert found.evaluations == 3
    front = tradeoffs(run(scorer).trials, groups=2)
    assert {one.adapters for one in front} <= {0, 1, 2}


def test_the_objective_is_the_same_for_equal_weights_with_and_without_groups() -> None:
    weights, examples = np.array([[0.5, -0.25, 1.0]]), 7
    alone = Objective(mean_over_examples, l1=0.1, prior=Prior(2.0))
    shared = Objective(mean_over_examples, l1=0.1, prior=Prior(2.0, 4))
    tall = np.repeat(weights, 4, axis=1)
    np.testing.assert_allclose(shared.penalties(tall, examples), alone.penalties(weights, examples))
    gradient = shared.penalty_gradient(tall[0], examples).reshape(3, 4).sum(axis=1)
    np.testing.assert_allclose(gradient, alone.penalty_gradient(weights[0], examples))


def test_on_the_simplex_the_weights_of_every_group_add_up_to_one() -> None:
    space = Space(3, (0.0, 1.5), simplex=True, groups=2)

    def function(w: Floats) -> tuple[float, Floats]:
        apart = w - np.array([2.0, 0.1, 0.3, -1.0, 0.4, 0.2])
        return float(apart @ apart), 2 * apart

    found = space.minimum(function, start=space.uniform, free=np.ones(6, dtype=bool)).reshape(3, 2)
    np.testing.assert_allclose(found.sum(axis=0), [1, 1], atol=1e-6)
    np.testing.assert_allclose(found[:, 0], [1, 0, 0], atol=1e-6)
    result = run(helpful_below(), simplex=True)
    asks = [np.array(trial.weights).reshape(3, 2) for trial in result.trials if trial.kind in ("ask", "fold")]
    assert asks
    for ask in asks:
        np.testing.assert_allclose(ask.sum(axis=0), [1, 1], atol=0.003)


def test_what_cannot_be_is_said() -> None:
    scorer = helpful_below()
    with pytest.raises(SearchError, match="has no groups"):
        run(scorer, preset="lorahub")
    with pytest.raises(SearchError, match=r"the scorer mixes a0 \[lower\].*asked for a0, a1(.|\n)*adapters and groups"):
        search(scorer.names, scorer, budget=60)
    seen: list[Progress] = []
    run(scorer, on_trial=seen.append)
    assert seen[-1].searched == (0, 1, 2)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_scale_is_searched_and_kept_by_every_mix_that_is_asked(groups: int) -> None:
    """Two adapters help a little each: at a sum of 1 they are too weak, and the bounds would let them be too strong."""
    words = ModuleGroups(("all",), (("*",),)) if groups == 1 else HALVES
    effects = np.full((2 * groups, 12), 1.5 / groups)
    scorer = Margins(("a", "b"), effects, np.random.default_rng(0).uniform(-4, -2, 12), groups=words)
    losses = []
    for scale in (None, (0.25, 1.5), (0.25, 2.5)):
        result = run(scorer, simplex=True, scale=scale)
        low, high = scale or (1.0, 1.0)
        for trial in result.trials:
            if trial.kind in ("ask", "fold"):
                sums = np.array(trial.weights).reshape(2, groups).sum(axis=0)
                assert (sums >= low - 0.003).all() and (sums <= high + 0.003).all()
        losses.append(result.loss)
    assert losses[0] > losses[1] + 0.1 > losses[2] + 0.2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale": (0.5, 2.0)}, "--simplex --scale"),
        ({"simplex": True, "scale": (2.0, 0.5)}, "the scale"),
        ({"simplex": True, "scale": (-1.0, 0.5)}, "the scale"),
        ({"simplex": True, "scale": (0.0, 0.0)}, "the scale"),
        ({"simplex": True, "scale": (5.0, 6.0)}, r"no 3 weights within \(0.0, 1.5\) .* add up to 5 to 6"),
        ({"simplex": True, "scale": (0.5, 1.0), "optimizer": "Cobyla"}, "only the fit searches the simplex"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SearchError, match=said):
        run(helpful_below(), **options)
