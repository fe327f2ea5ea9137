"""The search's promises, on a scorer that is a formula: budget, order, never worse, resuming, stopping."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compose.baselines import baseline_count
from compose.errors import SearchError
from compose.judged_run import BASE, FOLDS
from compose.nevergrad_run import searched_count
from compose.objective import DEFAULT_L1
from compose.prior import Prior
from compose.scoring.protocol import Scorer
from compose.search import DESCENT_STRENGTH, finish, search
from compose.trials import Progress, SearchResult, Trial

OPTIMIZERS = ["fit", "Cobyla", "OnePlusOne", "CMA", "NGOpt", "DE", "TBPSA"]


@dataclass
class Quadratic:
    """Each example's loss is a squared distance to a point of its own; `calls` are the batches it was asked for."""

    targets: NDArray[np.float64]  # (E, N)
    method: str = "lorahub"
    method_params: Mapping[str, object] = field(default_factory=lambda: {"fold": "balanced"})
    calls: list[NDArray[np.float64]] = field(default_factory=list)

    @classmethod
    def of(cls, adapters: int, *, examples: int = 3, seed: int = 0) -> Quadratic:
        return cls(np.random.default_rng(seed).uniform(-0.8, 1.2, (examples, adapters)))

    @property
    def adapter_names(self) -> tuple[str, ...]:
        return tuple(f"a{i}" for i in range(self.targets.shape[1]))

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return np.arange(1, len(self.targets) + 1)

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        self.calls.append(weights.copy())
        return ((weights[:, None] - self.targets[None]) ** 2).sum(-1)

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        raise NotImplementedError

    @property
    def evaluations(self) -> int:
        return sum(len(call) for call in self.calls)


def run(scorer: Scorer, **options: Any) -> SearchResult:
    return search(scorer.adapter_names, scorer, **options)


def test_the_baselines_come_first_in_one_batch() -> None:
    scorer = Quadratic.of(4)
    result = run(scorer, budget=30)
    expected = np.concatenate([np.zeros((1, 4)), np.full((1, 4), 0.25), np.eye(4)])
    np.testing.assert_array_equal(scorer.calls[0], expected)
    assert [trial.kind for trial in result.trials[:6]] == ["base", "uniform", *["single"] * 4]
    assert {trial.kind for trial in result.trials[6:]} == {"ask", "fold"}
    assert [trial.number for trial in result.trials] == list(range(1, len(result.trials) + 1))
    losses = [trial.loss for trial in result.trials[2:6]]
    assert result.baselines is not None
    assert result.baselines.best_single_name == f"a{int(np.argmin(losses))}"


def test_the_objective_is_the_mean_loss_and_a_share_of_the_mean_weight() -> None:
    scorer = Quadratic.of(3)
    for trial in run(scorer, budget=20, optimizer="Cobyla").trials:
        loss = Quadratic(scorer.targets).example_losses(np.array([trial.weights])).mean()
        assert trial.loss == pytest.approx(loss, abs=1e-12)
        assert trial.objective == pytest.approx(loss + DEFAULT_L1 * np.abs(trial.weights).mean(), abs=1e-12)


def test_the_default_s_objective_has_a_prior_that_weighs_less_with_more_examples() -> None:
    for examples in (2, 8):
        for trial in run(Quadratic.of(3, examples=examples), budget=20).trials:
            penalty = Prior(DESCENT_STRENGTH).penalties(np.array(trial.weights))
            assert trial.objective == pytest.approx(trial.loss + penalty / examples, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    adapters=st.integers(1, 8),
    extra=st.integers(0, 30),
    seed=st.integers(0, 1000),
    workers=st.sampled_from([1, 1, 3, 8]),
    optimizer=st.sampled_from([None, "OnePlusOne", "CMA", "DE"]),
)
@example(adapters=6, extra=8, seed=2, workers=1, optimizer=None)  # what is kept in the end is the mix of the five best
def test_the_budget_is_kept_and_the_result_is_never_worse_than_doing_nothing(
    adapters: int, extra: int, seed: int, workers: int, optimizer: str | None
) -> None:
    scorer = Quadratic.of(adapters, seed=seed)
    budget = adapters + 2 + extra
    result = run(scorer, budget=budget, seed=seed, workers=workers, optimizer=optimizer)
    assert result.evaluations == len(result.trials) == scorer.evaluations <= budget
    assert result.baselines is not None
    if result.gate is None:
        assert result.loss <= result.baselines.lowest_loss
    else:
        estimates = {one.name: one.loss for one in result.gate.estimates}
        assert estimates[result.gate.kept] <= estimates[BASE]
    assert len({trial.weights for trial in result.trials}) == len(result.trials)
    low = -1.5 if optimizer else 0.0
    assert all(low <= weight <= 1.5 for trial in result.trials for weight in trial.weights)
    chosen = next(trial for trial in result.trials if trial.weights == result.weights)
    assert (chosen.loss, chosen.objective) == (result.loss, result.objective)
    assert (result.fell_back is None) == (chosen.kind in ("ask", "fold"))
    assert len(result.searched) == (searched_count(adapters, budget) if optimizer else adapters)
    outside = [i for i in range(adapters) if i not in result.searched]
    assert all(trial.weights[i] == 0 for trial in result.trials if trial.kind == "ask" for i in outside)
    assert all(len(call) <= max(workers, adapters + 2, FOLDS) for call in scorer.calls)


def test_a_search_finds_what_is_there() -> None:
    target = np.array([[0.7, 0.0, -0.4, 0.2]])
    result = run(Quadratic(target), budget=120, optimizer="Cobyla")
    assert result.baselines is not None
    assert result.loss < 0.02 * result.baselines.lowest_loss
    assert result.fell_back is None


def test_where_nothing_helps_the_base_is_kept_and_said() -> None:
    result = run(Quadratic(np.zeros((2, 5))), budget=30)
    assert result.fell_back == "base"
    assert set(result.weights) == {0.0}
    assert any("base was kept" in note for note in result.notes)


def test_where_one_adapter_is_the_answer_it_is_kept_by_name() -> None:
    result = run(Quadratic(np.eye(4)[[2]]), budget=16)
    assert result.fell_back == "a2"


def test_a_lower_objective_never_buys_a_higher_loss_than_a_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large penalty draws the search towards 0; the plain loss of the best single must not be given up for it."""
    monkeypatch.setattr("compose.objective.DEFAULT_L1", 50.0)
    result = run(Quadratic(np.eye(3)[[1]]), budget=40, optimizer="Cobyla")
    assert result.loss == 0.0
    assert result.fell_back == "a1"


@pytest.mark.parametrize("adapters", [1, 2, 5, 20])
@pytest.mark.parametrize("extra", range(0, 50, 7))
def test_m_is_the_largest_number_with_two_simplices_of_budget(adapters: int, extra: int) -> None:
    budget = baseline_count(adapters) + extra
    fitting = [m for m in range(1, adapters + 1) if 2 * (m + 1) <= budget - baseline_count(adapters)]
    assert searched_count(adapters, budget) == max(fitting, default=0)


def test_with_a_small_budget_only_the_best_singles_are_searched_and_this_is_said() -> None:
    scorer = Quadratic.of(6, seed=4)
    events: list[Progress] = []
    result = run(scorer, budget=8 + 7, on_trial=events.append, optimizer="Cobyla")
    singles = [trial.loss for trial in result.trials if trial.kind == "single"]
    assert result.searched == tuple(sorted(np.argsort(singles)[:2].tolist()))
    assert events[0].searched is None and events[1].searched == result.searched
    assert any("2 of 6 adapters" in note and "--budget 22" in note for note in result.notes)


def test_with_no_budget_beyond_the_baselines_they_alone_are_scored() -> None:
    scorer = Quadratic.of(3)
    result = run(scorer, budget=5, optimizer="Cobyla")
    assert (result.evaluations, result.searched) == (5, ())
    said = "too little of the budget to search a mix; --budget 13 searches the weights of all 3"
    assert any(said in note for note in result.notes)
    assert len(run(Quadratic.of(3), budget=13, optimizer="Cobyla").searched) == 3
    few = run(Quadratic.of(1), budget=3, optimizer="Cobyla")
    assert any("--budget 6 searches its weight" in note for note in few.notes)
    assert run(Quadratic.of(1), budget=6, optimizer="Cobyla").searched == (0,)
    default = run(Quadratic.of(3), budget=5)
    assert default.evaluations == 5 and any("leave no budget" in note for note in default.notes)


def test_a_budget_below_the_baselines_is_refused_with_the_smallest_that_works() -> None:
    with pytest.raises(SearchError, match="--budget 6"):
        run(Quadratic.of(4), budget=5)
    assert run(Quadratic.of(4), budget=6).evaluations == 6
    with pytest.raises(SearchError, match="--budget 3"):
        run(Quadratic.of(1), budget=2)
    assert run(Quadratic.of(1), budget=3, optimizer="Cobyla").evaluations == 2


def test_one_adapter_is_its_own_uniform_mix_and_scored_once() -> None:
    scorer = Quadratic.of(1)
    result = run(scorer, budget=3)
    np.testing.assert_array_equal(scorer.calls[0], [[0.0], [1.0]])
    assert result.baselines is not None and result.baselines.uniform == result.baselines.best_single


@pytest.mark.parametrize("workers", [2, 8])
def test_an_optimizer_is_asked_for_as_many_points_at_a_time_as_there_are_workers(workers: int) -> None:
    scorer = Quadratic.of(3)
    assert run(scorer, budget=20, workers=workers, optimizer="OnePlusOne").optimizer == "OnePlusOne"
    assert max(len(call) for call in scorer.calls[1:]) == workers


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_same_seed_gives_the_same_trials_whatever_the_global_random_state(optimizer: str) -> None:
    results = []
    for noise in (1, 2):
        np.random.seed(noise)
        results.append(run(Quadratic.of(3), budget=25, seed=7, optimizer=optimizer))
    assert results[0] == results[1]


def test_another_seed_gives_other_trials() -> None:
    first, second = (run(Quadratic.of(3), budget=25, seed=seed, optimizer="OnePlusOne") for seed in (1, 2))
    assert first.trials != second.trials


class StopAfter:
    """Ctrl-C once `count` trials have been scored."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, progress: Progress) -> None:
        if progress.evaluations >= self.count:
            raise KeyboardInterrupt


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stop", [5, 6, 13, 24])
def test_a_stopped_search_resumes_to_exactly_the_same_trials(optimizer: str, stop: int) -> None:
    options: dict[str, Any] = {"budget": 25, "seed": 3, "optimizer": optimizer}
    whole = run(Quadratic.of(3), **options)
    stop = min(stop, len(whole.trials) - 1)  # the fit settles before its budget is used
    first = run(Quadratic.of(3), on_trial=StopAfter(stop), **options)
    assert first.stopped and first.trials == whole.trials[: len(first.trials)]
    scorer = Quadratic.of(3)
    resumed = run(scorer, replay=first.trials, **options)
    assert resumed == whole
    assert scorer.evaluations == len(whole.trials) - len(first.trials)


@pytest.mark.parametrize("stop", [5, 6, 13, 24])
@pytest.mark.parametrize("examples", [1, 3])
def test_a_stopped_search_can_be_finished_with_the_best_it_has_never_worse_than_a_baseline(
    stop: int, examples: int
) -> None:
    scorer = Quadratic.of(3, examples=examples, seed=stop)
    first = run(scorer, budget=25, on_trial=StopAfter(stop), optimizer="Cobyla")
    done = finish(first.adapter_names, first.trials, method="lorahub", budget=25, optimizer="Cobyla")
    assert done.baselines is not None and done.loss <= done.baselines.lowest_loss and not done.stopped
    assert (done.weights, done.loss, done.objective, done.fell_back) == (
        first.weights, first.loss, first.objective, first.fell_back
    )  # fmt: skip
    assert (done.trials, done.baselines, done.evaluations) == (first.trials, first.baselines, stop)
    assert any(f"after {stop} of 25 evaluations" in note for note in done.notes)


def test_finishing_does_not_trade_a_higher_loss_for_a_smaller_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compose.objective.DEFAULT_L1", 50.0)
    first = run(Quadratic(np.eye(3)[[1]]), budget=40, on_trial=StopAfter(20), optimizer="Cobyla")
    done = finish(first.adapter_names, first.trials, method="exact", budget=40, optimizer="Cobyla")
    assert done.loss == 0.0 and done.fell_back == "a1"


def test_a_search_without_its_baselines_cannot_be_finished() -> None:
    trials = run(Quadratic.of(3), budget=25).trials
    for there in (0, 4):
        with pytest.raises(SearchError, match="baselines"):
            finish(["a0", "a1", "a2"], trials[:there], method="lorahub", budget=25)
    with pytest.raises(SearchError, match="nothing"):
        finish(["a0"], [], method="lorahub", budget=25, preset="lorahub")


def test_a_batch_that_was_stored_in_part_is_scored_again_whole() -> None:
    options: dict[str, Any] = {"budget": 25, "seed": 3, "workers": 4, "optimizer": "OnePlusOne"}
    first, scorer = Quadratic.of(3), Quadratic.of(3)
    whole = run(first, **options)
    events: list[Progress] = []
    assert run(scorer, replay=whole.trials[:6], on_trial=events.append, **options) == whole
    assert len(first.calls[1]) > 1  # one of its trials is stored, the others are not
    np.testing.assert_array_equal(scorer.calls[0], first.calls[1])
    assert [event.replayed for event in events[:3]] == [True, False, False]


def test_a_finished_search_replays_without_scoring() -> None:
    whole = run(Quadratic.of(3), budget=25)
    scorer = Quadratic.of(3)
    assert run(scorer, budget=25, replay=whole.trials) == whole
    assert scorer.calls == []


def changed(trials: Sequence[Trial], number: int, **fields: Any) -> list[Trial]:
    return [replace(trial, **fields) if trial.number == number else trial for trial in trials]


def test_trials_of_another_search_are_refused() -> None:
    options: dict[str, Any] = {"budget": 25, "seed": 3, "optimizer": "OnePlusOne"}
    trials = run(Quadratic.of(3), **options).trials
    others: list[tuple[dict[str, Any], Sequence[Trial]]] = [
        ({**options, "seed": 4}, trials),
        ({**options, "bounds": (0.0, 1.0)}, trials),
        ({**options, "budget": 10}, trials),
        (options, changed(trials, 9, weights=(np.nextafter(trials[8].weights[0], 9), *trials[8].weights[1:]))),
        (options, changed(trials, 9, objective=trials[8].objective + 1e-15)),
    ]
    for other, stored in others:
        with pytest.raises(SearchError, match="another search"):
            run(Quadratic.of(3), replay=stored, **other)


def test_ctrl_c_before_anything_was_scored_is_not_swallowed() -> None:
    class Interrupted(Quadratic):
        def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
            raise KeyboardInterrupt(len(weights))

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(np.zeros((1, 2))), budget=10)


def test_ctrl_c_keeps_what_was_found_and_ends_the_process() -> None:
    """A real SIGINT in the middle of a Cobyla search, whose thread would keep the process alive."""
    program = textwrap.dedent(
        """
        import time
        import numpy as np
        from compose.search import search

        class Slow:
            adapter_names = ("a", "b"); token_counts = np.ones(1, dtype=int); method = "exact"; method_params = {}
            def example_losses(self, weights):
                time.sleep(0.05)
                return ((weights[:, None] - 0.3) ** 2).sum(-1)

        def shown(progress):
            print(progress.evaluations, flush=True)

        result = search(["a", "b"], Slow(), budget=10_000, optimizer="Cobyla", on_trial=shown)
        print("stopped", result.stopped, len(result.trials) == result.evaluations > 6, flush=True)
        """
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 8:
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert out.splitlines()[-1] == "stopped True True", err
    assert process.returncode == 0


def test_losses_that_are_not_finite_do_not_end_a_search_unless_they_are_the_base_s() -> None:
    class Overflowing(Quadratic):
        def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
            losses = super().example_losses(weights)
            losses[np.abs(weights).max(1) > 1.2] = np.nan
            return losses

    result = run(Overflowing(np.full((2, 2), 1.1)), budget=40, optimizer="Cobyla")
    assert any(trial.loss == np.inf for trial in result.trials)
    assert np.isfinite(result.loss)
    with pytest.raises(SearchError, match="base model's own loss"):
        run(Quadratic(np.full((1, 2), np.nan)), budget=10)


def test_negative_weights_in_an_element_wise_mix_are_explained() -> None:
    target, options = np.array([[0.9, -0.9]]), {"budget": 40, "optimizer": "Cobyla"}
    assert any("f(w) = f(-w)" in note for note in run(Quadratic(target), **options).notes)
    assert not any("f(w)" in note for note in run(Quadratic(target, method="exact"), **options).notes)
    assert not any("f(w)" in note for note in run(Quadratic(-target * [[-1, 1]]), **options).notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "Cobila"}, "did you mean Cobyla"),
        ({"optimizer": "Cobyla", "workers": 4}, "one point at a time, not 4"),
        ({"workers": 0}, "at least 1"),
        ({"seed": -1}, "seed"),
        ({"bounds": (1.0, -1.0)}, "bounds"),
        ({"preset": "other"}, "no preset"),
        ({"preset": "lorahub"}, "lorahub-compat"),
        ({"preset": "lorahub", "workers": 2}, "fixes optimizer"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SearchError, match=said):
        run(Quadratic.of(2), **{"budget": 20, **options})


def test_slerp_is_refused_before_anything_is_scored_where_it_could_not_mix() -> None:
    three, pair = Quadratic(np.eye(3), method="slerp"), Quadratic(np.eye(2), method="slerp")
    with pytest.raises(SearchError, match="slerp goes between two adapters, not 3"):
        run(three, budget=20)
    with pytest.raises(SearchError, match=r"slerp takes weights from 0(.|\n)*--bounds 0,1\.5"):
        run(pair, budget=20, optimizer="Cobyla")
    assert three.calls == pair.calls == []


def test_adapters_that_are_not_the_scorer_s_are_refused() -> None:
    with pytest.raises(SearchError, match="the scorer mixes a0, a1"):
        search(["a1", "a0"], Quadratic.of(2), budget=10)
    with pytest.raises(SearchError, match="no adapter"):
        search([], Quadratic.of(2), budget=10)


def test_numbers_survive_json_bit_for_bit() -> None:
    import json

    result = run(Quadratic.of(3), budget=20)
    stored = json.loads(json.dumps([vars(trial) for trial in result.trials]))
    lists = ("weights", "example_losses")
    replay = [Trial(**{**row, **{name: tuple(row[name]) for name in lists}}) for row in stored]
    assert run(Quadratic.of(3), budget=20, replay=replay) == result
