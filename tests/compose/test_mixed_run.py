"""A search over methods: every trial says its own, it resumes to the same, and it finds the method that helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compose.errors import SearchError
from compose.finalists import rescored
from compose.method_space import MethodSpace, Setting
from compose.module_groups import ModuleGroups
from compose.objective import default_objective
from compose.search import finish, search
from compose.trials import Progress, SearchResult

Floats = NDArray[np.float64]
SPACE = MethodSpace.of(["exact", "lorahub", "ties"], {"density": (0.2, 0.8)})


class Landscape:
    """A bowl around `best`; `ties` lies deeper by 0.3, the more so the closer its density is to 0.6."""

    adapter_names = ("a", "b", "c")
    method = "exact"
    method_params: Mapping[str, object] = {}

    def __init__(self, space: MethodSpace = SPACE, *, shift: float = 0.0) -> None:
        self.space, self.shift = space, shift
        self.calls: list[Floats] = []

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return np.ones(16, dtype=np.int64)

    def example_losses(self, rows: Floats) -> Floats:
        self.calls.append(rows.copy())
        found = []
        for row in rows:
            setting = self.space.decode(row[3:].tolist()) if len(row) > 3 else self.space.plain
            depth = 0.3 - abs(float(setting.params.get("density", 0.5) or 0) - 0.6) if setting.method == "ties" else 0.0
            used = min(1.0, abs(row[:3]).sum())  # without weights all methods are one
            found.append(1 + ((row[:3] - [0.9, 0.5, 0.0]) ** 2).sum() - depth * used + self.shift * row[0])
        return np.array(found)[:, None] * np.tile([1.0, 1.1, 0.9, 1.0], 4)

    def predictions(self, weights: Floats) -> list[list[str]]:
        raise NotImplementedError


def run(scorer: Landscape, **options: Any) -> SearchResult:
    return search(scorer.adapter_names, scorer, methods=scorer.space, **{"budget": 40, **options})


@pytest.mark.parametrize("options", [{}, {"workers": 4}, {"optimizer": "NGOpt"}], ids=str)
def test_every_trial_says_how_it_was_mixed_and_the_best_is_the_result(options: dict[str, Any]) -> None:
    scorer = Landscape()
    result = run(scorer, **options)
    rows = np.concatenate(scorer.calls)
    assert result.evaluations == len(rows) <= 40
    assert len({trial.mix for trial in result.trials}) == len(result.trials)
    for trial, row in zip(result.trials, rows, strict=True):
        assert SPACE.widened(row[None, :3], Setting(trial.method or "", trial.params or {}))[0].tolist() == row.tolist()
    assert {trial.method for trial in result.trials[:5]} == {"exact"}
    assert {trial.method for trial in result.trials[5:]} == {"exact", "lorahub", "ties"}
    assert result.baselines is not None and result.loss < result.baselines.lowest_loss
    best = min(result.trials, key=lambda trial: trial.objective)
    assert (result.method, result.params, result.weights) == (best.method, best.params, best.weights)


def test_the_method_that_helps_is_found_with_a_value_of_its_option() -> None:
    result = run(Landscape(), budget=60)
    assert result.method == "ties" and 0.2 <= float(result.params["density"] or 0) <= 0.8
    assert result.gate is not None and result.fell_back is None
    assert result.optimizer == "Cobyla"
    assert run(Landscape(), workers=3).optimizer == "DiscreteOnePlusOne"


@pytest.mark.parametrize("names", [["exact", "ties"], ["ties", "exact"]], ids=str)
@pytest.mark.parametrize("workers", [1, 4])
def test_of_two_methods_the_better_one_is_found(names: list[str], workers: int) -> None:
    result = run(Landscape(MethodSpace.of(names)), workers=workers)
    assert result.method == "ties" and result.fell_back is None and any(result.weights)
    tried = {method: [t.loss for t in result.trials if t.method == method] for method in names}
    assert min(tried["ties"]) <= result.loss < min(tried["exact"])


@pytest.mark.parametrize(
    "options",
    [{"optimizer": "Cobyla"}, {"optimizer": "DiscreteOnePlusOne", "workers": 3}, {"optimizer": "CMA"}],
    ids=str,
)
def test_a_space_of_one_method_is_the_search_of_its_weights(options: dict[str, Any]) -> None:
    scorer = Landscape(MethodSpace.of(["exact"]))
    mixed = run(scorer, **options)
    plain = search(scorer.adapter_names, scorer, budget=40, **options)
    assert [replace(t, method=None, params=None) for t in mixed.trials] == list(plain.trials)
    assert (mixed.weights, mixed.loss, mixed.fell_back) == (plain.weights, plain.loss, plain.fell_back)
    assert mixed.gate is not None and plain.gate is not None and mixed.gate.estimates == plain.gate.estimates


class Noise(Landscape):
    """Example e has the log-odds `base[e] + w @ slopes[e]`, slopes of its own for each method: all chance."""

    adapter_names = tuple("abcdefgh")  # type: ignore[assignment]  # a property of the protocol

    def __init__(self, space: MethodSpace, seed: int) -> None:
        super().__init__(space)
        random = np.random.default_rng(seed)
        self.slopes = random.normal(0, 1, (len(space.choices), 8, 16))
        self.base = random.normal(0.3, 0.5, 16)

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return np.ones(16, dtype=np.int64)

    def example_losses(self, rows: Floats) -> Floats:
        which = [int(row[8]) if len(row) > 8 else 0 for row in rows]
        margins = [self.base + row[:8] @ self.slopes[k] for row, k in zip(rows, which, strict=True)]
        return np.logaddexp(0, -np.array(margins))


def test_the_gate_refuses_what_a_search_over_methods_finds_in_noise_and_looks_at_what_is_simpler() -> None:
    space = MethodSpace.of(["exact", "ties", "svd"])
    gated = [run(Noise(space, seed), seed=seed) for seed in range(12)]
    fitted = [run(Noise(space, seed), seed=seed, gate=False) for seed in range(12)]
    assert sum(result.fell_back is None for result in gated) <= 2
    assert sum(result.fell_back is None for result in fitted) >= 8
    for result in gated:
        assert result.gate is not None
        names = [one.name for one in result.gate.estimates]
        assert result.baselines is not None and result.baselines.best_single_name in names
        assert {"the base model", "the uniform mix"} <= set(names)
        assert any(trial.kind == "top" and trial.method == "exact" for trial in result.trials)
    refused = next(
        r.gate.sentence for r in gated if r.gate is not None and r.fell_back == "base" and "for a" in r.gate.sentence
    )
    assert "for a search of 10 numbers" in refused  # 8 weights, and one of three methods


def test_the_first_point_that_is_asked_for_is_the_best_baseline_which_is_not_scored_twice() -> None:
    scorer = Landscape()
    result = run(scorer)
    assert result.baselines is not None
    best = result.baselines.best_single
    asked = [trial for trial in result.trials if trial.kind == "ask"]
    assert best.mix not in {trial.mix for trial in asked}
    assert sum(a != b for a, b in zip(asked[0].weights, best.weights, strict=True)) == 1  # one step along one weight


def test_one_method_with_a_range_is_searched_too() -> None:
    space = MethodSpace.of(["ties"], {"density": (0.2, 0.8)})
    result = run(Landscape(space))
    densities = {(trial.params or {})["density"] for trial in result.trials}
    assert len(densities) > 3 and all(0.2 <= float(one or 0) <= 0.8 for one in densities)


@pytest.mark.parametrize("options", [{}, {"workers": 4}], ids=str)
def test_stored_trials_are_replayed_and_a_stopped_search_can_be_finished(options: dict[str, Any]) -> None:
    whole = run(Landscape(), **options)
    for count in (5, 17, len(whole.trials)):
        scorer = Landscape()
        assert run(scorer, replay=whole.trials[:count], **options) == whole
        assert sum(len(call) for call in scorer.calls) <= 40 - 5
    early = finish(scorer.adapter_names, whole.trials[:20], method="exact", budget=40, methods=SPACE, **options)
    assert early.gate is not None and early.gate.estimates
    assert early.method in SPACE.names and early.is_chosen(early.trials[0]) == (early.fell_back == "base")
    other = [replace(t, method="lorahub", params={}) if t.number == 1 else t for t in whole.trials]
    with pytest.raises(SearchError, match="another search"):
        run(Landscape(), replay=other, **options)


def test_ctrl_c_keeps_what_was_found() -> None:
    def stop(progress: Progress) -> None:
        if progress.evaluations >= 12:
            raise KeyboardInterrupt

    result = run(Landscape(), on_trial=stop)
    assert result.stopped and len(result.trials) == 12 and result.method in SPACE.names
    assert result.gate is not None  # judged by what there is


def test_a_search_in_a_coarse_format_is_decided_by_rows_with_their_methods() -> None:
    found = run(Landscape())
    fine = Landscape(shift=0.01)
    decided = rescored(found, fine, default_objective(), coarse="bfloat16", methods=SPACE)
    assert fine.calls[0].shape[1] == 3 + SPACE.columns
    assert (decided.method, decided.weights) == (found.method, found.weights)  # the gate had decided
    assert decided.loss == pytest.approx(found.loss + 0.01 * found.weights[0] * 1.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "fit"}, "fit and adam search weights"),
        ({"optimizer": "adam"}, "fit and adam search weights"),
        ({"preset": "lorahub"}, "has one method"),
        ({"simplex": True, "scale": (9.0, 10.0)}, "add up to 9 to 10"),
        ({"groups": ModuleGroups(("x", "y"), (("*.q",), ("*.v",)))}, "groups of modules are searched by one method"),
        ({"scale": (0.5, 1.5)}, "a scale is for weights that add up"),
        ({"optimizer": "Cobyla", "workers": 2}, "one point at a time"),
    ],
)
def test_what_a_search_over_methods_cannot_have_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SearchError, match=said):
        run(Landscape(), **options)


def test_slerp_is_refused_before_anything_is_scored_where_it_could_not_mix() -> None:
    scorer = Landscape(MethodSpace.of(["exact", "slerp"]))
    with pytest.raises(SearchError, match="slerp goes between two adapters, not 3"):
        run(scorer)
    pair = Landscape(MethodSpace.of(["exact", "slerp"]))
    pair.adapter_names = ("a", "b")  # type: ignore[assignment]  # a property of the protocol
    with pytest.raises(SearchError, match="slerp takes weights from 0"):
        run(pair)
    assert scorer.calls == pair.calls == []
