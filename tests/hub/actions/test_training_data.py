"""Adapters may record which rows they were trained on; searches then tell which examples an adapter has seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose.errors import BadExamples
from compose.examples import examples_of, read_examples
from hub.actions.compose import Part, compose
from hub.actions.preselect import select
from hub.actions.publish import publish
from hub.actions.pull import pull
from hub.actions.search import run
from hub.actions.search_plan import SearchOptions, new_plan, stored_plan
from hub.address import parse_address as at
from hub.home import Home

Write = Callable[..., Path]


@pytest.fixture
def trained(home: Home, write_lora: Write, tiny_t5: Path, tmp_path: Path) -> None:
    """team/a was trained on two of the four examples, with other spacing; team/b says nothing."""
    rows = [
        {"input": " hello ", "output": "olleh"},
        {"input": "stone", "output": "enots"},
        {"input": "x", "output": "y"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    publish(
        home, write_lora("a", seed=1, scale=0.2), at("team/a"), base=str(tiny_t5), training_data=read_examples(path)
    )
    publish(home, write_lora("b", seed=2, scale=0.2), at("team/b"), base=str(tiny_t5))


@pytest.mark.usefixtures("trained")
def test_a_search_reports_the_examples_that_an_adapter_was_trained_on_and_the_recipe_keeps_it(
    home: Home, few_shot: Path, tmp_path: Path
) -> None:
    plan = new_plan(home, [at("team/a"), at("team/b")], few_shot, into=at("team/mix"), options=SearchOptions(budget=8))
    [note] = [note for note in plan.notes if "training data" in note]
    assert "2 of 4 examples" in note and "team/a (examples 2, 4)" in note
    done = run(home, plan)
    assert done.as_dict()["training_overlap"] == {"team/a": [2, 4]}
    assert done.composed is not None
    recipe = json.loads((pull(home, at("team/mix"), tmp_path / "mix").directory / "mixhub_recipe.json").read_text())
    assert recipe["search"]["training_overlap"] == {"team/a": [2, 4]}
    assert stored_plan(home, done.uuid).examples == plan.examples


@pytest.mark.usefixtures("trained")
def test_only_digests_are_published(home: Home, tmp_path: Path) -> None:
    folder = pull(home, at("team/a"), tmp_path / "pulled-a").directory
    text = (folder / "mixhub_training_rows.txt").read_text()
    assert len(text.splitlines()) == 4 and "stone" not in text
    assert not (pull(home, at("team/b"), tmp_path / "pulled-b").directory / "mixhub_training_rows.txt").exists()


def test_the_command_takes_the_rows_and_refuses_bad_ones_before_anything_is_stored(
    home: Home, mixhub: Callable[..., Any], write_lora: Write, few_shot: Path,
    contents: Callable[[], dict[str, object]],
) -> None:  # fmt: skip
    folder = write_lora("a", seed=1)
    (folder / "mixhub_training_rows.txt").write_text("not a digest\n")
    before = contents()
    with pytest.raises(BadExamples, match="line 1"):
        publish(home, folder, at("team/a"))
    assert mixhub("publish", folder, "team/a", "--training-data", folder / "adapter_config.json").code == 2
    assert contents() == before
    (folder / "mixhub_training_rows.txt").unlink()
    assert mixhub("publish", folder, "team/a", "--training-data", few_shot, "--json").json["created"]


def test_what_the_ancestors_of_a_mix_have_seen_is_told_of_the_mix_in_every_report(
    home: Home, few_shot: Path, tmp_path: Path, mixhub: Callable[..., Any], tiny_t5: Path, write_lora: Write
) -> None:
    """team/found was searched on these examples, team/other on one of them; team/child is made of team/found."""
    publish(
        home, write_lora("a", seed=1, scale=0.2), at("team/a"), base=str(tiny_t5), training_data=read_examples(few_shot)
    )
    publish(home, write_lora("b", seed=2, scale=0.2), at("team/b"), base=str(tiny_t5))
    parts, quick = [at("team/a"), at("team/b")], {"optimizer": "Cobyla", "method": "lorahub", "gate": False}
    other = tmp_path / "other.jsonl"
    other.write_text(few_shot.read_text().splitlines()[2] + '\n{"input": "x", "output": "y"}\n')
    for rows, name in ((few_shot, "team/found"), (other, "team/other")):
        run(home, new_plan(home, parts, rows, into=at(name), options=SearchOptions(budget=8, **quick)))
    compose(home, [Part(at("team/found"), 0.5), Part(at("team/b"), 0.5)], at("team/child"), method="exact")

    mixes = [at("team/child"), at("team/other"), at("team/b")]
    done = run(home, new_plan(home, mixes, few_shot, options=SearchOptions(budget=8, **quick)))
    told = done.as_dict()
    assert told["search_overlap"] == {"team/child": [1, 2, 3, 4], "team/other": [3]}
    assert told["training_overlap"] == {"team/child": [1, 2, 3, 4], "team/other": [1, 2, 3, 4]}
    assert any(
        "team/found, which team/child was mixed from, was searched on 4 of 4" in note for note in done.plan.notes
    )
    assert any("training data of team/a, which team/other was mixed from" in note for note in done.plan.notes)
    again = stored_plan(home, done.uuid)
    assert again.seen == done.plan.seen and set(again.notes) <= set(done.plan.notes)
    page = tmp_path / "page.html"
    reported = mixhub("report", done.uuid, "--html", page).out
    assert "was searched on 4 of 4" in " ".join(reported.split())
    assert "was searched on 4 of 4" in page.read_text()


def test_a_selection_leaves_out_mixes_that_were_searched_on_the_same_examples_unless_they_are_named(
    home: Home, few_shot: Path, tiny_t5: Path, write_lora: Write
) -> None:
    for seed, name in enumerate(("team/a", "team/b"), start=1):
        publish(home, write_lora(name[-1], seed=seed, scale=0.2), at(name), base=str(tiny_t5))
    options = SearchOptions(budget=8, optimizer="Cobyla", method="lorahub", gate=False)
    parts = [at("team/a"), at("team/b")]
    run(home, new_plan(home, parts, few_shot, into=at("team/found"), options=options))
    of_all = select(home, [], few_shot, count=3, base=str(tiny_t5))
    listed = {one.name: one for one in of_all.considered}
    assert at("team/found") not in of_all.adapters and listed["team/found"].loss is None
    assert "was searched on 4 of 4 examples" in listed["team/found"].reason
    unlike = examples_of([{"input": "q", "output": "olleh"}])
    for chosen in (
        select(home, [*parts, at("team/found")], few_shot, count=3),
        select(home, [], unlike, count=3, base=str(tiny_t5)),
    ):
        assert next(one for one in chosen.considered if one.name == "team/found").loss is not None
