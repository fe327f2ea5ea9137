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
from compose.fitted_run import BOLD, CAUTIOUS
from compose.grouped_fit import GROUPED, GroupedFit, heaviest
from compose.judged_run import BASE
from compose.margin_model import MarginModel
from compose.module_groups import ModuleGroups, column_names
from compose.objective import Objective, mean_over_examples
from compose.pareto import tradeoffs
from compose.prior import Prior
from compose.search import finish, search
from compose.space import Space
from compose.tied_ledger import TiedLedger
from compose.trials import Ledger, Progress, SearchResult

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


@pytest.mark.parametrize("optimizer", ["fit", "adam"])
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


@pytest.mark.parametrize("optimizer", ["fit", "adam"])
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
    result = run(Margins(("a", "b", "c"), effects, np.full(10, -2.0)), bounds=(0.0, 1.0), optimizer="adam")
    assert result.fell_back == "b" and result.weights == (0, 0, 1, 1, 0, 0)


def test_the_first_half_of_the_budget_is_the_search_without_groups() -> None:
    """Trial for trial, so that telling groups apart begins at what whole adapters reach."""
    random = np.random.default_rng(5)
    effects, margins = random.normal(size=(4, 9)), random.normal(size=9)
    halves = Margins(tuple("abcd"), np.repeat(effects / 2, 2, axis=0), margins)
    by_groups = run(halves, budget=66)
    one = ModuleGroups(("all",), (("*",),))
    whole = run(Margins(tuple("abcd"), effects, margins, groups=one), budget=6 + 30)
    shared = [trial for trial in by_groups.trials if trial.number <= whole.evaluations]
    for mine, theirs in zip(shared, whole.trials, strict=True):
        assert mine.weights == pytest.approx(np.repeat(theirs.weights, 2), abs=0.002) and mine.kind == theirs.kind
        assert mine.loss == pytest.approx(theirs.loss, abs=0.01)
    assert by_groups.objective <= whole.objective + 0.01


def test_the_fit_looks_at_the_groups_of_the_heaviest_adapters_at_the_best_mix_and_judges_by_groups_apart() -> None:
    scorer = helpful_below(4)
    result = run(scorer, budget=50)
    probes = [np.array(trial.weights) for trial in result.trials if trial.kind == "part"]
    assert probes and len(probes) % 2 == 0
    mix = np.maximum.reduce(probes)
    for probe in probes:
        [[left_out]] = np.argwhere(probe != mix).reshape(1, -1, 1)
        assert probe[left_out] == 0 < mix[left_out] and mix[left_out] == mix[left_out ^ 1]
    assert result.gate is not None
    assert [one.name for one in result.gate.estimates][:3] == [CAUTIOUS, BOLD, GROUPED]
    assert result.gate.kept == GROUPED and result.fell_back is None


def test_the_model_after_the_probes_knows_the_slope_of_every_group_that_was_probed() -> None:
    random = np.random.default_rng(3)
    effects, margins = random.normal(size=(6, 4)), random.normal(size=4)
    scorer = Margins(("a", "b", "c"), effects, margins)
    ledger = Ledger(scorer, Objective(mean_over_examples, l1=0), budget=40, replay=(), on_trial=None)
    fit = GroupedFit(scorer.names, ledger, seed=0, space=Space(3, (0, 1.5), groups=2))
    fit._whole.model = MarginModel(np.zeros(3), margins, effects[::2] + effects[1::2])
    [mix] = ledger.score(np.array([[0.5, 0.5, 0.25, 0.25, 0.0, 0.0]]), ["ask"])
    model = fit._by_groups(mix, heaviest(mix, 2, 5))
    np.testing.assert_allclose(model.slopes[:4], effects[:4], atol=1e-9)
    np.testing.assert_allclose(model.slopes[4:], np.repeat(effects[4:].mean(axis=0)[None], 2, axis=0), atol=1e-9)
    np.testing.assert_allclose(model.predicted(np.array(mix.weights)), scorer.example_losses(model.at[None])[0])
    assert heaviest(mix, 2, 5) == [0, 1] and heaviest(mix, 2, 1) == [0] and heaviest(mix, 2, -1) == []


def test_a_budget_that_is_too_small_for_the_fit_is_refused() -> None:
    scorer = helpful_below(4)
    with pytest.raises(SearchError, match=r"too small to fit weights for 2 groups of 4 adapters(.|\n)*--budget 26"):
        run(scorer, budget=25)
    assert run(scorer, budget=26).evaluations <= 26


@pytest.mark.parametrize("optimizer", ["Cobyla", "OnePlusOne"])
def test_groups_and_an_optimizer_that_only_searches_whole_adapters_are_refused(optimizer: str) -> None:
    scorer = helpful_below()
    with pytest.raises(
        SearchError, match=f"{optimizer} searches weights of whole adapters(.|\n)*--optimizer fit or adam"
    ):
        run(scorer, optimizer=optimizer)
    assert scorer.calls == []


def test_where_nothing_helps_the_base_is_kept() -> None:
    result = run(Margins(("a", "b"), np.full((4, 8), -9.0), np.full(8, 2.0)), budget=40)
    assert result.fell_back == "base" and set(result.weights) == {0.0}


def test_a_tied_ledger_is_a_view_of_the_one_behind() -> None:
    scorer = helpful_below(2)
    behind = Ledger(
        scorer, Objective(mean_over_examples, l1=0.1, prior=Prior(1.0, 2)), budget=9, replay=(), on_trial=None
    )
    behind.score(np.array([[0.1, 0.2, 0.3, 0.4]]), ["ask"])
    tied = TiedLedger(behind, 2, budget=5)
    first, again = tied.score(np.array([[0.5, 0.25], [0.5, 0.25]]), ["ask", "ask"])
    assert first == again == tied.find(np.array([0.5, 0.25])) and first.weights == (0.5, 0.25)
    assert tied.trials == [first] and (tied.left, behind.left) == (4, 7)
    assert tied.untied(first).weights == (0.5, 0.5, 0.25, 0.25) and tied.find(np.array([0.5, 0.5])) is None
    alone = Objective(mean_over_examples, l1=0.1, prior=Prior(1.0)).penalty_gradient(np.array([0.5, 0.25]), 12)
    np.testing.assert_allclose(tied.penalty_gradient(np.array([0.5, 0.25])), alone)
    tied.searched = (1,)
    assert behind.searched == (1,)


@pytest.mark.parametrize("optimizer", ["fit", "adam"])
def test_a_replayed_search_scores_nothing_again_and_a_stopped_one_can_be_finished(optimizer: str) -> None:
    scorer = helpful_below()
    whole = run(scorer, optimizer=optimizer)
    scorer.calls.clear()
    if optimizer != "adam":  # which has no gradients of stored trials
        assert run(scorer, optimizer=optimizer, replay=whole.trials) == whole and scorer.calls == []
    done = finish(
        scorer.names, whole.trials[:20], method="exact", budget=60, optimizer=optimizer, groups=scorer.groups
    )  # fmt: skip
    best = [trial.objective for trial in whole.trials[:20] if trial.kind not in ("fold", "part")]
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
    assert any(trial.kind == "part" for trial in result.trials)
    assert all(trial.kind != "part" for trial in result.trials if trial.weights == result.weights)
    asks = [np.array(trial.weights).reshape(3, 2) for trial in result.trials if trial.kind in ("ask", "fold")]
    assert asks
    for ask in asks:
        np.testing.assert_allclose(ask.sum(axis=0), [1, 1], atol=0.003)


def test_adam_keeps_the_sums_of_every_group_too() -> None:
    result = run(helpful_below(), simplex=True, scale=(0.5, 1.25), optimizer="adam")
    asks = [np.array(trial.weights).reshape(3, 2) for trial in result.trials if trial.kind == "ask"]
    assert len(asks) > 5
    for ask in asks:
        assert (ask >= 0).all() and (ask.sum(axis=0) > 0.5 - 1e-9).all() and (ask.sum(axis=0) < 1.25 + 1e-9).all()


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
        ({"simplex": True, "preset": "lorahub"}, "the preset lorahub has no simplex"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SearchError, match=said):
        run(helpful_below(), **options)
