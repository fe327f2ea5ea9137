"""Verifying a mix of the registry: an honest one is reproduced, a tampered one is not, and says where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from compose.errors import BadRecipe
from compose.trials import Progress
from hub.actions.compose import Part, compose
from hub.actions.publish import publish
from hub.actions.pull import pull
from hub.actions.search import SearchDone, finish, run
from hub.actions.search_plan import SearchOptions, new_plan, stored_plan
from hub.actions.verify import Replay, verify
from hub.address import parse_address as at
from hub.errors import NotReproduced, UsageError
from hub.home import Home
from storage import searches
from storage.errors import DamagedBlob
from storage.models import CompositionRow

Write = Callable[..., Path]
NAMES = ("team/a", "team/b", "team/c")
BUDGET = 12


@pytest.fixture(autouse=True)
def three(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    for seed, name in enumerate(NAMES, start=1):
        publish(home, write_lora(f"s{seed}", seed=seed, scale=0.2), at(name), base=str(tiny_t5))


def found(home: Home, few_shot: Path) -> SearchDone:
    options = SearchOptions(budget=BUDGET, optimizer="Cobyla", method="lorahub", gate=False)
    return run(home, new_plan(home, [at(name) for name in NAMES], few_shot, into=at("team/mix"), options=options))


def republished(home: Home, tmp_path: Path, change: Callable[[Path], None]) -> str:
    """The mix as somebody else would hand it on, after `change` in its folder."""
    folder = pull(home, at("team/mix"), tmp_path / "pulled").directory
    change(folder)
    return str(publish(home, folder, at("other/mix")).address)


def recipe_changed(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "mixhub_recipe.json"
        recipe = json.loads(path.read_text())
        for key, value in changes.items():
            if key == "weight":
                recipe["parents"][0]["weight"] = value
            else:
                recipe["search"][key] = value
        path.write_text(json.dumps(recipe))

    return change


def test_a_searched_mix_is_reproduced_with_its_score_and_every_trial(home: Home, few_shot: Path) -> None:
    done = found(home, few_shot)
    assert done.composed is not None
    checked = verify(home, at("team/mix"), replay=True)
    assert checked.reproduced and checked.mix.identical and checked.unchecked == ()
    assert checked.score is not None and checked.score.found == pytest.approx(done.result.loss, rel=1e-5)
    assert checked.replay is not None and (checked.replay.same, checked.replay.trials) == (BUDGET, BUDGET)


def test_verifying_changes_nothing_that_is_stored(
    home: Home, few_shot: Path, contents: Callable[[], dict[str, object]]
) -> None:
    found(home, few_shot)
    before = contents()
    verify(home, at("team/mix"), replay=True)
    assert contents() == before


def test_a_mix_by_hand_is_reproduced_and_has_no_search_to_replay(home: Home) -> None:
    compose(home, [Part(at("team/a"), 0.5), Part(at("team/b"), -0.25)], at("team/hand"), method="exact")
    checked = verify(home, at("team/hand"))
    assert checked.reproduced and checked.score is None and checked.mix.compared > 0
    with pytest.raises(UsageError, match="by hand"):
        verify(home, at("team/hand"), replay=True)
    with pytest.raises(NotReproduced, match="was not mixed"):
        verify(home, at("team/a"))


def test_another_weight_in_the_recipe_is_found_with_the_tensors_that_differ(
    home: Home, few_shot: Path, tmp_path: Path
) -> None:
    found(home, few_shot)
    address = republished(home, tmp_path, recipe_changed(weight=0.123))
    checked = verify(home, at(address))
    assert not checked.reproduced and checked.mix.largest is not None and checked.mix.largest > 0
    assert any("lora_A" in finding and "differ" in finding for finding in checked.findings)


def test_a_better_loss_than_the_true_one_is_found_by_scoring_again(home: Home, few_shot: Path, tmp_path: Path) -> None:
    done = found(home, few_shot)
    address = republished(home, tmp_path, recipe_changed(loss=0.5 * done.result.loss))
    checked = verify(home, at(address))
    assert checked.mix.identical and not checked.reproduced
    assert len(checked.findings) == 1 and "on the examples its loss is" in checked.findings[0]


def test_trials_that_were_rewritten_are_found_beside_the_mix_and_in_the_registry(
    home: Home, few_shot: Path, tmp_path: Path
) -> None:
    done = found(home, few_shot)

    def leave_one_out(folder: Path) -> None:
        path = folder / "mixhub_trials.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))

    checked = verify(home, at(republished(home, tmp_path, leave_one_out)))
    assert [finding.startswith("mixhub_trials.jsonl is not") for finding in checked.findings] == [True]
    with home.write() as session:
        row = searches.find(session, done.uuid)
        searches.add_trials(session, row, [searches.Trial(BUDGET + 1, "ask", (0.1, 0.2, 0.3), 0.0, 0.0, 0.0)])
    assert any("the stored trials" in finding for finding in verify(home, at("team/mix"), replay=True).findings)


def test_without_the_search_the_examples_may_be_given_and_must_be_the_same(
    home: Home, few_shot: Path, tmp_path: Path
) -> None:
    found(home, few_shot)
    address = at(republished(home, tmp_path, recipe_changed(id="0" * 32)))
    checked = verify(home, address)
    assert checked.reproduced and checked.score is None and "not scored again" in checked.unchecked[0]
    scored = verify(home, address, examples=few_shot)
    assert scored.score is not None and scored.score.agrees and scored.unchecked == ()
    few_shot.write_text('{"input": "other", "output": "rows"}\n')
    with pytest.raises(UsageError, match="not the examples of the search"):
        verify(home, address, examples=few_shot)


def test_damaged_bytes_on_disk_are_found(home: Home, few_shot: Path) -> None:
    found(home, few_shot)
    verify(home, at("team/mix"))
    [recipe] = (home.directory / "checkouts").glob("*/mixhub_recipe.json")
    blob = recipe.resolve()
    blob.chmod(0o644)
    blob.write_text(blob.read_text().replace(f'"budget": {BUDGET}', f'"budget": {BUDGET - 1}'))
    with pytest.raises(DamagedBlob, match=r"mixhub_recipe\.json"):
        verify(home, at("team/mix"))


def test_a_recipe_that_is_not_the_one_that_the_registry_wrote_down_is_found(home: Home, few_shot: Path) -> None:
    found(home, few_shot)
    with home.write() as session:
        row = session.scalars(select(CompositionRow)).one()
        row.recipe = {**row.recipe, "search": {**row.recipe["search"], "budget": BUDGET - 1}}
    checked = verify(home, at("team/mix"))
    assert any("search is not what the registry recorded" in finding for finding in checked.findings)


def test_a_recipe_that_cannot_be_read_is_one_clear_error(home: Home, few_shot: Path, tmp_path: Path) -> None:
    found(home, few_shot)

    def spoil(folder: Path) -> None:
        (folder / "mixhub_recipe.json").write_text("{}")

    with pytest.raises(BadRecipe, match="format 1"):
        verify(home, at(republished(home, tmp_path, spoil)))


def test_the_command_says_the_verdict_and_ends_with_1_when_it_is_not_reproduced(
    mixhub: Callable[..., Any], home: Home, few_shot: Path, tmp_path: Path
) -> None:
    found(home, few_shot)
    good = mixhub("verify", "team/mix", "--replay", "--json")
    assert good.code == 0 and good.json["reproduced"] and good.json["replay"]["same"] == BUDGET
    address = republished(home, tmp_path, recipe_changed(weight=0.123))
    bad = mixhub("verify", address)
    assert bad.code == 1 and bad.out.startswith("not reproduced") and "lora_A" in bad.out
    assert mixhub("verify", "team/a").code == 1


def test_a_search_that_was_finished_early_is_followed_no_further_than_its_trials(home: Home, few_shot: Path) -> None:
    options = SearchOptions(budget=40, optimizer="Cobyla", method="lorahub", gate=False)
    plan = new_plan(home, [at(name) for name in NAMES], few_shot, into=at("team/mix"), options=options)

    def stop(progress: Progress) -> None:
        if progress.evaluations >= BUDGET:
            raise KeyboardInterrupt

    done = finish(home, stored_plan(home, run(home, plan, on_batch=stop).uuid))
    assert done.composed is not None
    checked = verify(home, at("team/mix"), replay=True)
    assert checked.reproduced and checked.replay == Replay(BUDGET, BUDGET)


@pytest.mark.parametrize("early", [False, True])
def test_the_loss_is_scored_in_the_number_format_that_it_was_decided_in(
    home: Home, few_shot: Path, early: bool
) -> None:
    """The search is coarse; its end is decided in float32, unless it was finished early, where nothing is scored."""
    options = SearchOptions(budget=BUDGET, optimizer="Cobyla", method="lorahub", gate=False, dtype="bfloat16")
    plan = new_plan(home, [at(name) for name in NAMES], few_shot, into=at("team/mix"), options=options)

    def stop(progress: Progress) -> None:
        if early and progress.evaluations >= BUDGET - 1:
            raise KeyboardInterrupt

    done = run(home, plan, on_batch=stop)
    if early:
        done = finish(home, stored_plan(home, done.uuid))
    loss = done.result.loss
    chosen = next(trial for trial in done.result.trials if trial.weights == done.result.weights)
    assert (chosen.loss == loss) == early, "the two formats differ here"
    for examples in (None, few_shot):
        checked = verify(home, at("team/mix"), examples=examples)
        assert checked.score is not None and checked.score.found == pytest.approx(loss, rel=1e-3 if early else 1e-5)
        assert checked.reproduced
