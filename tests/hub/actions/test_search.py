"""Searching: what is stored, what is published, and that a stopped search goes on as if it had never stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import select, update

from compose.errors import BadExamples, BadMethod, BaseModelError, SearchError
from compose.trials import Progress
from hub.actions.publish import publish
from hub.actions.pull import pull
from hub.actions.search import SearchDone, finish, run
from hub.actions.search_plan import SearchOptions, new_plan, stored_plan
from hub.actions.show import show
from hub.address import parse_address as at
from hub.errors import UnknownBase
from hub.home import Home
from storage import searches
from storage.errors import Conflict, NotFound
from storage.models import SearchRow, TrialRow

Write = Callable[..., Path]
SITE = "encoder.block.0.layer.0.SelfAttention.q"
NAMES = ("team/a", "team/b", "team/c")


@pytest.fixture(autouse=True)
def three(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    """Three adapters of one base, small enough that some mixes of them are better than the base alone."""
    for seed, name in enumerate(NAMES, start=1):
        publish(home, write_lora(f"s{seed}", seed=seed, scale=0.2), at(name), base=str(tiny_t5))


def searched(
    home: Home, few_shot: Path, *, into: str = "", on_batch: Callable[[Progress], None] | None = None, **options: Any
) -> SearchDone:
    """By Cobyla, element-wise and without a gate, which use up a budget and find a mix here, unless `options` say
    otherwise: adapters that are noise are of no use to anyone."""
    own: dict[str, Any] = {} if "preset" in options else {"optimizer": "Cobyla", "method": "lorahub"}
    own |= {} if options.get("optimizer") == "fit" else {"gate": False}
    plan = new_plan(
        home, [at(name) for name in NAMES], few_shot, into=at(into) if into else None,
        options=SearchOptions(**{"budget": 14, **own, **options}),
    )  # fmt: skip
    return run(home, plan, on_batch=on_batch)


def stored(home: Home, uuid: str) -> list[searches.Trial]:
    with home.read() as session:
        return searches.trials(session, searches.find(session, uuid))


def stop_after(batches: int) -> Callable[[Progress], None]:
    """Ctrl-C once this many batches are stored."""
    seen: list[Progress] = []

    def on_batch(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == batches:
            raise KeyboardInterrupt

    return on_batch


def test_every_trial_is_stored_and_the_best_mix_is_published_with_how_it_was_found(
    home: Home, few_shot: Path, tmp_path: Path
) -> None:
    done = searched(home, few_shot, into="team/best")
    result = done.result
    assert result.evaluations == 14 == len(stored(home, done.uuid))
    for mine, kept in zip(result.trials, stored(home, done.uuid), strict=True):
        assert (mine.number, mine.kind, mine.weights, mine.loss, mine.objective) == (
            kept.number, kept.kind, kept.weights, kept.loss, kept.objective
        )  # fmt: skip
    assert [t.kind for t in result.trials[:5]] == ["base", "uniform", "single", "single", "single"]
    assert result.baselines is not None and result.loss <= result.baselines.lowest_loss
    assert done.composed is not None and done.composed.published.version == "v1"
    recipe = json.loads((pull(home, at("team/best"), tmp_path / "best").directory / "mixhub_recipe.json").read_text())
    assert recipe["search"]["seed"] == 0 and recipe["search"]["examples_sha256"] == done.plan.examples.digest
    used = [(f"{n}", w) for n, w in zip(NAMES, result.weights, strict=True) if w != 0]
    assert [(p["address"], p["weight"]) for p in recipe["parents"]] == used
    assert [(p.address, p.weight) for p in show(home, at("team/best")).parents] == used


def test_the_published_mix_scores_as_its_trial_did(home: Home, few_shot: Path) -> None:
    done = searched(home, few_shot, into="team/best")
    again = run(home, new_plan(home, [at("team/best")], few_shot, options=SearchOptions(budget=3)))
    alone = next(t for t in again.result.trials if t.kind == "single")
    assert math.isclose(alone.loss, done.result.loss, rel_tol=1e-5)


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        ({}, 1),
        ({}, 5),
        ({"workers": 4, "optimizer": "OnePlusOne"}, 1),
        ({"workers": 4, "optimizer": "OnePlusOne"}, 2),
        ({"method": "exact"}, 3),
        ({"preset": "lorahub"}, 4),
        ({"optimizer": "fit", "method": "exact"}, 1),
        ({"optimizer": "adam"}, 3),
    ],
    ids=str,
)
def test_a_stopped_search_resumes_to_the_trials_and_bytes_of_an_uninterrupted_one(
    home: Home, few_shot: Path, options: dict[str, Any], batches: int
) -> None:
    whole = searched(home, few_shot, into="team/whole", **options)
    stopped = searched(home, few_shot, into="team/parts", on_batch=stop_after(batches), **options)
    assert stopped.result.stopped and stopped.composed is None
    assert len(stored(home, stopped.uuid)) == len(stopped.result.trials) < whole.result.evaluations
    seen: list[Progress] = []
    resumed = run(home, stored_plan(home, stopped.uuid[:12]), on_batch=seen.append)
    assert [p.replayed for p in seen] == [True] * batches + [False] * (len(seen) - batches)
    assert resumed.uuid == stopped.uuid and not resumed.result.stopped
    assert resumed.result.trials == whole.result.trials
    assert [replace(t, seconds=0.0) for t in stored(home, resumed.uuid)] == [
        replace(t, seconds=0.0) for t in stored(home, whole.uuid)
    ]
    if whole.composed is None:  # the preset may come back to its start, the base; a gate may keep it
        assert resumed.composed is None and {"preset", "optimizer"} & options.keys()
        return
    digests = [show(home, at(f"team/{name}")).facts["weights sha256"] for name in ("whole", "parts")]
    assert digests[0] == digests[1]


def test_a_search_that_was_stored_before_the_fit_was_the_default_goes_on_as_it_began(
    home: Home, few_shot: Path
) -> None:
    whole = searched(home, few_shot)
    stopped = searched(home, few_shot, on_batch=stop_after(3))
    with home.write() as session:
        row = session.scalars(select(SearchRow).where(SearchRow.uuid == stopped.uuid)).one()
        options = {**row.config["options"], "optimizer": None}
        for name in ("simplex", "gate", "top"):
            del options[name]
        row.config = {**row.config, "options": options}
        session.execute(update(TrialRow).where(TrialRow.search_id == row.id).values(example_losses=None))
    resumed = run(home, stored_plan(home, stopped.uuid))
    assert [(t.weights, t.loss) for t in resumed.result.trials] == [(t.weights, t.loss) for t in whole.result.trials]
    assert (resumed.result.weights, resumed.result.optimizer) == (whole.result.weights, "Cobyla")


def test_a_stopped_search_is_finished_by_publishing_the_best_so_far_without_loading_the_base(
    home: Home, few_shot: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped = searched(home, few_shot, into="team/best", on_batch=stop_after(4))
    monkeypatch.setattr("hub.actions.search_scorer._scorer", lambda _: pytest.fail("nothing may be scored"))
    done = finish(home, stored_plan(home, stopped.uuid[:12]))
    assert (done.uuid, done.result.weights, done.result.loss) == (
        stopped.uuid, stopped.result.weights, stopped.result.loss
    )  # fmt: skip
    assert done.result.baselines is not None and done.result.loss <= done.result.baselines.lowest_loss
    assert done.composed is not None and [t.number for t in stored(home, done.uuid)] == list(range(1, 9))
    recipe = json.loads((pull(home, at("team/best"), tmp_path / "best").directory / "mixhub_recipe.json").read_text())
    assert (recipe["search"]["evaluations"], recipe["search"]["budget"]) == (8, 14)
    with home.read() as session:
        assert searches.find(session, done.uuid).status == "finished"
    for again in (finish, run):
        with pytest.raises(Conflict, match="finished"):
            again(home, stored_plan(home, stopped.uuid))


def test_a_search_that_scored_nothing_cannot_be_finished_and_stays_resumable(
    home: Home, few_shot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("hub.actions.search_scorer._scorer", interrupted)
        searched(home, few_shot)
    with home.read() as session:
        [row] = searches.every(session)
    with pytest.raises(SearchError, match="baselines"):
        finish(home, stored_plan(home, row.uuid))
    assert run(home, stored_plan(home, row.uuid)).result.evaluations == 14


def test_stopping_twice_changes_nothing_and_a_finished_search_cannot_be_resumed(home: Home, few_shot: Path) -> None:
    whole = searched(home, few_shot)
    stopped = searched(home, few_shot, on_batch=stop_after(1))
    again = run(home, stored_plan(home, stopped.uuid), on_batch=stop_after(4))
    assert again.result.stopped
    assert run(home, stored_plan(home, stopped.uuid)).result.trials == whole.result.trials
    with pytest.raises(Conflict, match="finished"):
        run(home, stored_plan(home, stopped.uuid))
    with pytest.raises(NotFound):
        stored_plan(home, "0123456789ab")


def test_a_search_that_failed_in_the_middle_can_be_resumed(home: Home, few_shot: Path) -> None:
    def break_down(progress: Progress) -> None:
        if progress.evaluations > 7:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        searched(home, few_shot, on_batch=break_down)
    with home.read() as session:
        [row] = searches.every(session)
    assert row.status == "failed" and row.result == {"error": "disk full"}
    assert run(home, stored_plan(home, row.uuid)).result.trials == searched(home, few_shot).result.trials


def test_a_resumed_search_uses_the_revisions_and_examples_it_began_with(
    home: Home, few_shot: Path, write_lora: Write, tiny_t5: Path
) -> None:
    whole = searched(home, few_shot)
    stopped = searched(home, few_shot, on_batch=stop_after(2))
    publish(home, write_lora("new", seed=77), at("team/a"), base=str(tiny_t5))
    few_shot.unlink()
    assert run(home, stored_plan(home, stopped.uuid)).result.trials == whole.result.trials


def test_a_search_does_not_resume_on_another_model(
    home: Home, few_shot: Path, write_lora: Write, other_base: Callable[..., Path], tmp_path: Path
) -> None:
    folder = other_base(tmp_path / "moving", seed=4)
    publish(home, write_lora("m", seed=1), at("team/m"), base=str(folder))
    plan = new_plan(home, [at("team/m")], few_shot, options=SearchOptions(budget=8, optimizer="Cobyla"))
    stopped = run(home, plan, on_batch=stop_after(1))
    other_base(folder, seed=5)
    with pytest.raises(UnknownBase, match="not the one"):
        stored_plan(home, stopped.uuid)
    other_base(folder, seed=4)
    assert run(home, stored_plan(home, stopped.uuid)).result.evaluations == 8


def test_the_preset_scores_no_baselines_and_takes_the_recommended_point(home: Home, few_shot: Path) -> None:
    done = searched(home, few_shot, preset="lorahub", budget=8, into="team/preset")
    assert done.result.preset == "lorahub" and done.result.baselines is None
    assert done.result.optimizer == "NGOpt" and done.result.trials[0].weights == (0.0, 0.0, 0.0)
    if done.composed is not None:
        assert done.composed.method == "lorahub"
        assert show(home, at("team/preset")).method == "lorahub"


def test_when_nothing_is_better_than_the_base_alone_nothing_is_published(
    home: Home, few_shot: Path, write_lora: Write, tiny_t5: Path
) -> None:
    zero = {f"base_model.model.{SITE}.lora_B.weight": torch.zeros(16, 2)}
    for seed in (1, 2):
        idle = write_lora(f"idle{seed}", seed=seed, sites=[SITE], tensors=zero)
        publish(home, idle, at(f"idle/{seed}"), base=str(tiny_t5))
    plan = new_plan(home, [at("idle/1"), at("idle/2")], few_shot, into=at("idle/mix"), options=SearchOptions(budget=5))
    done = run(home, plan)
    assert done.result.fell_back == "base" and set(done.result.weights) == {0.0}
    assert done.composed is None and any("base was kept" in note for note in done.result.notes)
    with pytest.raises(NotFound):
        show(home, at("idle/mix"))


def test_a_small_budget_searches_the_best_singles_only_and_says_so(home: Home, few_shot: Path) -> None:
    done = searched(home, few_shot, budget=9)
    assert len(done.result.searched) == 1
    assert any("1 of 3 adapters" in note and "--budget 13" in note for note in done.result.notes)
    with pytest.raises(SearchError) as caught:
        searched(home, few_shot, budget=4)
    assert "--budget 5" in caught.value.remedy


def test_a_search_does_not_depend_on_how_the_adapters_are_written(home: Home, few_shot: Path) -> None:
    versions = new_plan(
        home,
        [at(f"{n}@v1") for n in NAMES],
        few_shot,
        options=SearchOptions(budget=14, optimizer="Cobyla", method="lorahub"),
    )
    assert run(home, versions).result.trials == searched(home, few_shot).result.trials
    one, other = (
        searched(home, few_shot, workers=3, seed=seed, optimizer="OnePlusOne").result.trials for seed in (1, 2)
    )
    assert one[:5] == other[:5] and one != other


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"device": "nonsense"}, SearchError, "nonsense"),
        ({"dtype": "int3"}, SearchError, "no dtype 'int3'"),
        ({"guard_tolerance": 0.1}, SearchError, "--guard-tolerance is for a guard set"),
        ({"max_new_tokens": 5}, SearchError, "the objective loss writes none"),
        ({"workers": 4, "optimizer": None, "method": "exact", "gate": True}, SearchError, "fit decides itself"),
        ({"workers": 4, "optimizer": "adam"}, SearchError, "adam decides itself"),
        ({"device": "cuda:99"}, BaseModelError, "cuda:99"),
        ({"optimizer": "Cobila"}, SearchError, "Cobyla"),
        ({"optimizer": "Cobyla", "workers": 2}, SearchError, "one point"),
        ({"preset": "other"}, SearchError, "no preset"),
        ({"preset": "lorahub", "workers": 2}, SearchError, "fixes"),
        ({"preset": "lorahub", "method": "exact"}, (SearchError, BadMethod), "exact"),
        ({"method": "magic"}, BadMethod, "magic"),
        ({"params": {"fold": "twice"}}, BadMethod, "fold"),
        ({"bounds": (1.0, -1.0)}, SearchError, "bounds"),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_found_before_a_search_is_stored(
    home: Home, few_shot: Path, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        searched(home, few_shot, **options)
    with home.read() as session:
        assert searches.every(session) == []


def test_labels_are_for_encoders_and_are_not_silently_dropped(home: Home, few_shot: Path) -> None:
    plan = new_plan(home, [at("team/a")], few_shot, labels={"x": "one", "y": "two"}, options=SearchOptions(budget=3))
    with pytest.raises(BadExamples, match="labels are not used"):
        run(home, plan)


def test_adapters_of_two_bases_need_to_be_told_which_to_score_on(
    home: Home, few_shot: Path, write_lora: Write, tiny_t5: Path, other_base: Callable[..., Path], tmp_path: Path
) -> None:
    folder = other_base(tmp_path / "retrained", seed=4)
    publish(home, write_lora("o", seed=9, base_model_name_or_path="x/y"), at("team/o"), base=str(folder))
    both = [at("team/a"), at("team/o")]
    with pytest.raises(UnknownBase, match="different base models") as caught:
        new_plan(home, both, few_shot, allow_unbound=True)
    assert "--base" in caught.value.remedy
    with pytest.raises(UnknownBase, match="another one"):
        new_plan(home, [at("team/a")], few_shot, base=str(folder))
    plan = new_plan(home, both, few_shot, base=str(tiny_t5), allow_unbound=True, options=SearchOptions(budget=4))
    assert any("team/o" in note for note in plan.notes)
    assert run(home, plan).result.evaluations == 4
