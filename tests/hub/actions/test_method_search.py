"""A search over the merge method, from the command to the recipe: what it chose is published, stored and verified."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compose.errors import BadMethod, SearchError
from compose.trials import Progress
from hub.actions.publish import publish
from hub.actions.pull import pull
from hub.actions.search import SearchDone, finish, run
from hub.actions.search_plan import SearchOptions, new_plan, stored_plan
from hub.actions.show import show
from hub.actions.verify import _difference, verify
from hub.address import parse_address as at
from hub.client import Hub
from hub.home import Home
from hub.report.page import search_page
from hub.report.search_report import stored_report
from hub.trials_file import trials_text
from storage import searches

Write = Callable[..., Path]
NAMES = ("team/a", "team/b", "team/c")
SEVERAL: dict[str, Any] = {
    "method": ("ties", "exact", "lorahub"), "params": {"density": (0.3, 0.9)}, "budget": 20,
    "gate": False,  # the adapters are noise: of no use to anyone, and a gate would say so
}  # fmt: skip


@pytest.fixture(autouse=True)
def three(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    for seed, name in enumerate(NAMES, start=1):
        publish(home, write_lora(f"s{seed}", seed=seed, scale=0.2), at(name), base=str(tiny_t5))


def searched(
    home: Home, few_shot: Path, *, into: str = "", on_batch: Callable[[Progress], None] | None = None, **options: Any
) -> SearchDone:
    plan = new_plan(
        home, [at(name) for name in NAMES], few_shot, into=at(into) if into else None,
        options=SearchOptions(**{**SEVERAL, **options}),
    )  # fmt: skip
    return run(home, plan, on_batch=on_batch)


def stop_after(trials: int) -> Callable[[Progress], None]:
    def on_batch(progress: Progress) -> None:
        if progress.evaluations >= trials:
            raise KeyboardInterrupt

    return on_batch


def stored(home: Home, uuid: str) -> list[searches.Trial]:
    with home.read() as session:
        return searches.trials(session, searches.find(session, uuid))


def test_what_was_chosen_is_in_the_recipe_the_trials_the_rows_and_the_report(
    home: Home, few_shot: Path, tmp_path: Path
) -> None:
    done = searched(home, few_shot, into="team/mix")
    result = done.result
    assert done.plan.options.method == "ties,exact,lorahub" and result.optimizer == "Cobyla"
    kept = stored(home, done.uuid)
    assert [(t.weights, t.method, t.params) for t in kept] == [(t.weights, t.method, t.params) for t in result.trials]
    assert {t.method for t in kept} == {"ties", "exact", "lorahub"}
    folder = pull(home, at("team/mix"), tmp_path / "mix").directory
    recipe = json.loads((folder / "mixhub_recipe.json").read_text())
    chosen = min((t for t in result.trials if t.loss <= result.loss), key=lambda t: t.objective)
    assert recipe["method"] == result.method == chosen.method
    assert recipe["params"].items() >= (chosen.params or {}).items()
    assert recipe["search"]["methods"] == {"ties": {"density": [0.3, 0.9]}, "exact": {}, "lorahub": {}}
    assert show(home, at("team/mix")).method == result.method
    text = (folder / "mixhub_trials.jsonl").read_text()
    assert text == trials_text(kept) == trials_text(result.trials)
    assert [json.loads(line)["method"] for line in text.splitlines()] == [t.method for t in kept]
    report = stored_report(home, done.uuid)
    assert report.mixed_by.startswith(str(result.method)) and report.as_dict()["trials"][0]["method"] == "exact"
    page = search_page(report)
    assert f"Mixed by <b>{report.mixed_by}" in page and page.count("<td>ties (density ") > 0
    for one in report.methods:
        losses = [t.loss for t in kept if t.method == one.method and any(t.weights)]
        assert (one.trials, one.best_loss) == (len(losses), min(losses))
        cells = f'<td>{one.method}</td><td class="number">{one.trials}</td><td class="number">{one.best_loss:.4f}</td>'
        assert cells in page
    assert {one.method for one in report.methods} == {"ties", "exact", "lorahub"}
    mine = next(t for t in kept if (t.weights, t.method, t.params) == (result.weights, result.method, result.params))
    assert report.intervals["mix"].mean == pytest.approx(sum(mine.example_losses or ()) / 4)
    again = run(home, new_plan(home, [at("team/mix")], few_shot, options=SearchOptions(budget=3)))
    alone = next(t for t in again.result.trials if t.kind == "single")
    assert math.isclose(alone.loss, result.loss, rel_tol=1e-5)


@pytest.mark.parametrize("method", ["ties", "exact", "lorahub"])
def test_a_mix_of_each_method_is_published_and_verified_with_its_search(
    home: Home, few_shot: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(self: Any) -> Any:
        return min((t for t in self._ledger.trials if t.method == method and any(t.weights)), key=lambda t: t.loss)

    monkeypatch.setattr("compose.mixed_run.MixedRun.choose", chosen)
    done = searched(home, few_shot, into="team/mix", optimizer="DiscreteOnePlusOne", budget=60)
    assert done.result.method == method and done.composed is not None and done.composed.method == method
    compared = done.explanation.example_losses if done.explanation else {}
    baselines = done.result.baselines
    assert baselines is not None
    assert sum(compared["best single"]) / 4 == pytest.approx(baselines.best_single.loss, rel=1e-5)
    assert sum(compared["mix"]) / 4 == pytest.approx(done.result.loss, rel=1e-5)
    verified = verify(home, at("team/mix"), replay=True)
    assert verified.reproduced and verified.mix.identical, verified.findings
    assert verified.replay is not None and verified.replay.same == done.result.evaluations


def test_a_trial_that_comes_out_by_another_method_is_a_finding(home: Home, few_shot: Path) -> None:
    done = searched(home, few_shot, into="team/mix")
    before = done.result.trials[7]
    assert (before.method, before.params) != ("svd", {"rank": 3})
    assert "mixed by" in _difference(before, replace(before, method="svd", params={"rank": 3}))
    assert _difference(before, before) == ""


@pytest.mark.parametrize(("options", "trials"), [({}, 5), ({}, 11), ({"workers": 4}, 9)], ids=str)
def test_a_stopped_search_resumes_to_the_trials_and_bytes_of_an_uninterrupted_one(
    home: Home, few_shot: Path, options: dict[str, Any], trials: int
) -> None:
    whole = searched(home, few_shot, into="team/whole", **options)
    stopped = searched(home, few_shot, into="team/parts", on_batch=stop_after(trials), **options)
    assert stopped.result.stopped and trials <= len(stored(home, stopped.uuid)) < 20
    resumed = run(home, stored_plan(home, stopped.uuid))
    assert resumed.result.trials == whole.result.trials
    assert resumed.composed is not None and whole.composed is not None
    weights = [
        (pull(home, done.composed.published.address, few_shot.parent / name).directory / "adapter_model.safetensors")
        for name, done in (("whole", whole), ("parts", resumed))
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_stopped_search_is_finished_with_the_method_of_its_best_trial(home: Home, few_shot: Path) -> None:
    stopped = searched(home, few_shot, into="team/mix", on_batch=stop_after(12))
    done = finish(home, stored_plan(home, stopped.uuid))
    best = min(stored(home, stopped.uuid), key=lambda t: t.loss)
    assert (done.result.method, done.result.weights) == (best.method, best.weights)
    assert done.composed is not None and done.composed.method == best.method


def test_a_guard_and_another_objective_go_with_several_methods(home: Home, few_shot: Path) -> None:
    plan = new_plan(
        home, [at(name) for name in NAMES], few_shot, guard=few_shot,
        options=SearchOptions(
            **{**SEVERAL, "budget": 12, "gate": True, "objective": "exact_match", "max_new_tokens": 3}
        ),
    )  # fmt: skip
    done = run(home, plan)
    assert done.result.evaluations == 12 and {t.method for t in done.result.trials} > {"exact"}
    assert done.tradeoffs and all(one.guard is not None for one in done.tradeoffs)


def test_one_method_that_is_dense_is_searched_as_before(home: Home, few_shot: Path) -> None:
    done = searched(home, few_shot, method="ties", params={"density": 0.6}, budget=8, gate=True)
    assert done.result.method == "ties" and {t.method for t in done.result.trials} == {None}
    assert done.result.optimizer == "fit" and "method" not in trials_text(done.result.trials)
    assert stored(home, done.uuid)[0].params is None


def test_from_python_and_from_the_command_line(home: Home, few_shot: Path, mixhub: Callable[..., Any]) -> None:
    with Hub(home.directory) as hub:
        mine = hub.search(
            list(NAMES), few_shot, method=["exact", "ties"], params={"density": [0.3, 0.9]}, budget=20, gate=False
        )
    words = ("search", *NAMES, "--examples", few_shot, "--budget", 20, "--method", "exact,ties",
             "--param", "density=0.3:0.9", "--no-gate")  # fmt: skip
    data = mixhub(*words, "--json").json
    assert [(t["method"], t["params"], t["loss"]) for t in data["trials"]] == [
        (t.method, dict(t.params or {}), t.loss) for t in mine.result.trials
    ]
    assert data["method"] == mine.result.method
    shown = mixhub(*words)
    report = mixhub("report", mine.uuid)
    for ran in (shown, report):
        assert ran.code == 0 and f"mixed by {mine.result.method}" in ran.out, ran.err
    # and what each came to: the base alone is of neither
    mixes = [t for t in mine.result.trials if any(t.weights)]
    for name in ("exact", "ties"):
        losses = [t.loss for t in mixes if t.method == name]
        rows = [line.split() for line in report.out.splitlines() if line.startswith(f"{name} ")]
        assert [name, str(len(losses)), f"{min(losses):.4f}"] == rows[0][:3] and rows[0][3:4] == (
            ["density"] if name == "ties" else []
        )
        [listed] = [one for one in mixhub("report", mine.uuid, "--json").json["methods"] if one["method"] == name]
        assert (listed["trials"], listed["best_loss"]) == (len(losses), min(losses))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "exact,nonsense"), "no merge method"),
        (("--method", "exact,ties", "--param", "density=0.3:1.9"), "from 0 to 1"),
        (("--method", "exact,ties", "--param", "density=0.8:0.2"), "a lower and an upper number"),
        (("--method", "exact,ties", "--param", "density=nan:0.5"), "from 0 to 1"),
        (("--method", "exact,ties", "--param", "density=0.2:inf"), "from 0 to 1"),
        (("--method", "exact,ties", "--param", "density=low:high"), "from 0 to 1"),
        (("--method", "exact,ties", "--groups", "attn,mlp,other"), "leave --groups out"),
        (("--method", "ties", "--param", "density=0.2:0.8", "--groups", "attn,other"), "leave --groups out"),
        (("--method", "exact,ties", "--param", "speed=3"), "option"),
        (("--method", "exact,ties", "--optimizer", "fit"), "--optimizer Cobyla"),
        (("--method", "exact,ties", "--preset", "lorahub"), "has one method"),
        (("--method", "exact,ties", "--simplex", "--scale", "90,100"), "add up to 90 to 100"),
        (("--method", "exact,slerp"), "between two adapters"),
        (("--method", "prompt-mean"), "use one of"),
    ],
)
def test_what_cannot_be_searched_is_one_error_with_a_remedy_and_nothing_is_stored(
    home: Home, few_shot: Path, mixhub: Callable[..., Any], words: tuple[str, ...], said: str
) -> None:
    ran = mixhub("search", *NAMES, "--examples", few_shot, *words)
    assert ran.code != 0 and said in " ".join(ran.err.split()), ran.err
    with home.read() as session:
        assert searches.every(session) == []


def test_a_plan_says_what_is_wrong_with_its_methods_before_it_is_stored(home: Home, few_shot: Path) -> None:
    for options, error in (
        ({"method": ("exact", "exact")}, BadMethod),
        ({"method": "exact", "params": {"density": (0.1, 0.2)}}, BadMethod),
        ({"method": "exact,ties", "workers": 2, "optimizer": "Cobyla"}, SearchError),
    ):
        with pytest.raises(error):
            new_plan(home, [at(name) for name in NAMES], few_shot, options=SearchOptions(**options))


def test_bench_measures_one_method(few_shot: Path, mixhub: Callable[..., Any]) -> None:
    ran = mixhub("bench", *NAMES, "--examples", few_shot, "--method", "exact,ties")
    assert ran.code != 0 and "one method" in ran.err
