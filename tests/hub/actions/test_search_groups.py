"""Searching with a weight per adapter and group of modules: stored, resumed, published, verified and reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from compose.errors import SearchError
from compose.layer_weights import weight_at
from compose.trials import Progress
from hub.actions.publish import publish
from hub.actions.pull import pull
from hub.actions.search import SearchDone, finish, run
from hub.actions.search_plan import SearchOptions, new_plan, stored_plan
from hub.actions.show import show
from hub.actions.verify import verify
from hub.address import parse_address as at
from hub.home import Home
from hub.report.page import search_page
from hub.report.search_report import stored_report
from storage.models import SearchRow

Write = Callable[..., Path]
Mixhub = Callable[..., Any]
NAMES = ("team/a", "team/b", "team/c")
SITES = (
    "encoder.block.0.layer.0.SelfAttention.q", "decoder.block.0.layer.1.EncDecAttention.v",
    "decoder.block.0.layer.0.SelfAttention.q",
)  # fmt: skip
GROUPS = ("encoder layer 0", "decoder layer 0")


@pytest.fixture(autouse=True)
def three(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    for seed, name in enumerate(NAMES, start=1):
        publish(home, write_lora(f"s{seed}", seed=seed, scale=0.2, sites=SITES), at(name), base=str(tiny_t5))


def searched(
    home: Home, few_shot: Path, *, into: str = "", on_batch: Callable[[Progress], None] | None = None, **options: Any
) -> SearchDone:
    fitted = options.get("optimizer", "adam") in ("fit", None)
    own = {"budget": 24, "optimizer": "adam", "groups": "layers:2", "gate": fitted}  # random adapters are no gain
    plan = new_plan(
        home, [at(name) for name in NAMES], few_shot, into=at(into) if into else None,
        options=SearchOptions(**{**own, **options}),
    )  # fmt: skip
    return run(home, plan, on_batch=on_batch)


def stop_after(batches: int) -> Callable[[Progress], None]:
    seen: list[Progress] = []

    def on_batch(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == batches:
            raise KeyboardInterrupt

    return on_batch


def recipe_of(home: Home, address: str, folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((pull(home, at(address), folder).directory / "mixhub_recipe.json").read_text())
    return content


@pytest.mark.parametrize("method", ["exact", "lorahub"])
def test_the_mix_is_an_ordinary_composition_with_weights_by_globs_and_is_verified(
    home: Home, few_shot: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def best_mix(run: Any) -> Any:
        return min((trial for trial in run._ledger.trials if trial.kind == "ask"), key=lambda trial: trial.loss)

    monkeypatch.setattr("compose.adam_run.AdamRun.choose", best_mix)  # also where a random adapter alone is better
    done = searched(home, few_shot, into="team/mix", method=method)
    result = done.result
    assert result.groups == GROUPS and len(result.weights) == 6 and result.fell_back is None
    assert done.composed is not None and done.composed.published.version == "v1"
    recipe = recipe_of(home, "team/mix", tmp_path / "mix")
    assert recipe["search"]["groups"]["names"] == list(GROUPS) and recipe["search"]["candidates"] == list(NAMES)
    by_name = dict(zip(NAMES, result.by_adapter, strict=True))
    assert any(low != high for low, high in by_name.values())
    for parent in recipe["parents"]:
        weight = parent["layers"] or parent["weight"]
        expected = (by_name[parent["address"]][0], *[by_name[parent["address"]][1]] * 2)
        assert tuple(weight_at(weight, site) for site in SITES) == expected
        assert parent["weight"] == pytest.approx(sum(by_name[parent["address"]]) / 2)
    checked = verify(home, at("team/mix"), replay=True)
    assert checked.reproduced and checked.mix.identical and checked.unchecked == ()
    assert checked.score is not None and checked.score.found == pytest.approx(result.loss, rel=1e-5)
    assert checked.replay is not None and checked.replay.same == checked.replay.trials == 24
    trials = (tmp_path / "mix" / "mixhub_trials.jsonl").read_text().splitlines()
    assert len(trials) == 24 and len(json.loads(trials[0])["weights"]) == 6
    assert {one.name for one in (done.explanation.contributions if done.explanation else ())} <= set(NAMES)


@pytest.mark.parametrize(("options", "batches"), [({"optimizer": "adam"}, 6), ({"optimizer": "fit", "budget": 31}, 2)])
def test_a_stopped_search_resumes_to_the_same_trials_and_can_be_finished(
    home: Home, few_shot: Path, options: dict[str, Any], batches: int
) -> None:
    whole = searched(home, few_shot, into="team/whole", **options)
    stopped = searched(home, few_shot, into="team/parts", on_batch=stop_after(batches), **options)
    again = searched(home, few_shot, into="team/early", on_batch=stop_after(batches), **options)
    plan = stored_plan(home, stopped.uuid)
    assert stopped.result.stopped and plan.groups is not None and plan.groups.names == GROUPS
    resumed = run(home, plan)
    assert resumed.result.trials == whole.result.trials and resumed.result.weights == whole.result.weights
    if whole.composed is not None:
        digests = [show(home, at(f"team/{name}")).facts["weights sha256"] for name in ("whole", "parts")]
        assert digests[0] == digests[1]
    early = finish(home, stored_plan(home, again.uuid))
    assert early.result.groups == GROUPS and early.result.baselines is not None
    limit = early.result.baselines.lowest_loss
    allowed = [t for t in again.result.trials if t.kind not in ("fold", "part") and t.loss <= limit]
    assert early.result.objective == min(t.objective for t in allowed)
    if early.composed is not None:
        assert verify(home, at("team/early")).reproduced


def test_a_scale_is_stored_and_a_search_from_before_there_were_groups_and_scales_goes_on(
    home: Home, few_shot: Path
) -> None:
    options = {"optimizer": "fit", "budget": 31, "groups": None}
    stopped = searched(home, few_shot, on_batch=stop_after(1), simplex=True, scale=(0.25, 1.25), **options)
    assert stored_plan(home, stopped.uuid).options.scale == (0.25, 1.25)
    result = run(home, stored_plan(home, stopped.uuid)).result
    asks = [sum(trial.weights) for trial in result.trials if trial.kind in ("ask", "fold")]
    assert asks and all(0.25 - 0.002 <= total <= 1.25 + 0.002 for total in asks)
    whole, before = (searched(home, few_shot, on_batch=stop, **options) for stop in (None, stop_after(1)))
    with home.write() as session:
        row = session.scalars(select(SearchRow).where(SearchRow.uuid == before.uuid)).one()
        kept = {name: value for name, value in row.config["options"].items() if name not in ("groups", "scale")}
        row.config = {name: value for name, value in {**row.config, "options": kept}.items() if name != "groups"}
    assert run(home, stored_plan(home, before.uuid)).result == whole.result


def test_equal_weights_over_the_groups_score_and_mix_as_none(home: Home, few_shot: Path) -> None:
    """The baselines are whole adapters: their losses are those of a search without groups."""
    grouped, alone = (searched(home, few_shot, groups=groups).result for groups in ("layers:2", None))
    for mine, theirs in zip(grouped.trials[:5], alone.trials[:5], strict=True):
        assert mine.weights == tuple(weight for weight in theirs.weights for _ in GROUPS)
        assert mine.loss == pytest.approx(theirs.loss, abs=1e-6) and mine.kind == theirs.kind
    assert grouped.baselines is not None and alone.baselines is not None
    assert grouped.baselines.best_single_name == alone.baselines.best_single_name


def test_a_coarser_search_is_decided_in_float32(home: Home, few_shot: Path) -> None:
    result = searched(home, few_shot, dtype="bfloat16").result
    assert result.groups == GROUPS and any("Searched in bfloat16" in note for note in result.notes)


def test_the_command_line_shows_a_table_of_adapters_and_groups(mixhub: Mixhub, few_shot: Path, tmp_path: Path) -> None:
    words = (
        "search", *NAMES, "--examples", few_shot, "--budget", 24, "--optimizer", "adam",
        "--groups", "encoder.*,other", "--no-gate", "--as", "team/new", "--report", tmp_path / "page.html",
    )  # fmt: skip
    shown = mixhub(*words)
    assert shown.code == 0, shown.err
    assert "adapter" in shown.out and "encoder.*" in shown.out and "other" in shown.out
    page = (tmp_path / "page.html").read_text()
    assert '<th class="number">encoder.*</th><th class="number">other</th>' in page and "color-mix" in page
    data = mixhub(*words[:-4], "--json").json
    assert data["groups"] == ["encoder.*", "other"] and len(data["weights"]) == 6
    report = mixhub("report", data["search"]).out
    assert "encoder.*" in report and "loss without the adapter" in report
    assert mixhub("report", data["search"], "--json").json["result"]["groups"] == ["encoder.*", "other"]
    assert mixhub("verify", "team/new").code == 0
    scaled = mixhub("search", *NAMES, "--examples", few_shot, "--simplex", "--scale", "0.5,1.5", "--json").json
    assert scaled["groups"] == [] and len(scaled["weights"]) == 3
    refused = mixhub("search", *NAMES, "--examples", few_shot, "--scale", "2", "--json")
    assert refused.code == 2 and "--scale '2' is not two numbers" in refused.out + refused.err


def test_the_report_of_a_mix_whose_groups_cancel_shows_them(home: Home, few_shot: Path) -> None:
    done = searched(home, few_shot)
    found = stored_report(home, done.uuid)
    assert found.group_weights == dict(zip(NAMES, done.result.by_adapter, strict=True))
    cancelled = replace(found, result={**(found.result or {}), "weights": [0.5, -0.5, 0, 0, 0, 0]})
    assert cancelled.weights["team/a"] == 0
    assert "+0.500" in search_page(cancelled) and "2 more adapters have weight 0" in search_page(cancelled)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"groups": "attn,mlp"}, "no adapted module belongs to the group 'mlp'"),
        ({"groups": "layers:3"}, "2 layers in 2 stacks(.|\n)*layers:2"),
        ({"groups": "layers:99", "optimizer": "fit", "budget": 20}, "2 layers in 2 stacks(.|\n)*layers:2"),
        ({"groups": "depth"}, "no group of modules 'depth'"),
        ({"optimizer": "fit", "budget": 20}, "for 2 groups of 3 adapters(.|\n)*--budget 25"),
        ({"optimizer": None, "preset": "lorahub"}, "has no groups"),
        ({"optimizer": "Cobyla"}, "Cobyla searches weights of whole adapters"),
        ({"optimizer": None, "objective": "exact_match"}, "Cobyla searches weights(.|\n)*leave --groups out"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_stored(
    home: Home, few_shot: Path, options: dict[str, Any], said: str, contents: Callable[[], dict[str, object]]
) -> None:
    before = contents()
    with pytest.raises(SearchError, match=said):
        searched(home, few_shot, **options)
    assert contents() == before
