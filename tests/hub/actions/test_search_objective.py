"""Searching for more than the few-shot loss: objectives, the adapters' usage contracts, a guard set, and resuming."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from compose.errors import BadExamples, ComposeError, SearchError
from compose.examples import Example, Examples, examples_of
from compose.trials import Progress
from hub.actions.compose import MixOptions, mix, pin_parts
from hub.actions.publish import publish
from hub.actions.pull import pull
from hub.actions.search import SearchDone, finish, run
from hub.actions.search_plan import SearchOptions, new_plan, stored_plan
from hub.actions.show import show
from hub.address import parse_address as at
from hub.card_facts import UsageContract
from hub.home import Home
from hub.search_usage import SearchUsage

Write = Callable[..., Path]
NAMES = ("team/a", "team/b", "team/c")
ROWS = Examples((Example("ab", "b"), Example("cde", "de"), Example("f", "gh")))
LABELS = {"x": "b", "y": "de"}
LABELLED = Examples((Example("ab", "x"), Example("cde", "y"), Example("f", "x")))


@pytest.fixture
def adapters(home: Home, write_lora: Write, tiny_t5: Path) -> Callable[..., None]:
    """Publish three adapters with contracts: `adapters(a, b, c)`, None for none."""

    def make(*contracts: UsageContract | None) -> None:
        for seed, (name, contract) in enumerate(zip(NAMES, contracts or (None,) * 3, strict=True), start=1):
            folder = write_lora(f"s{seed}", seed=seed, scale=0.2)
            publish(home, folder, at(name), base=str(tiny_t5), contract=contract)

    return make


def searched(home: Home, rows: Examples, *, into: str = "", on_batch: Any = None, **more: Any) -> SearchDone:
    planned = {key: more.pop(key) for key in ("guard", "template", "chat_template", "labels") if key in more}
    plan = new_plan(
        home, [at(name) for name in NAMES], rows, into=at(into) if into else None,
        options=SearchOptions(**{"budget": 9, **more}), **planned,
    )  # fmt: skip
    return run(home, plan, on_batch=on_batch)


def losses(done: SearchDone) -> list[float]:
    return [trial.loss for trial in done.result.trials]


def test_a_contract_all_agree_on_is_applied_recorded_and_can_be_left_out(
    home: Home, adapters: Callable[..., None], tmp_path: Path
) -> None:
    adapters(*[UsageContract(prompt_template="Q: {input} A:")] * 3)
    done = searched(home, ROWS, into="team/new")
    by_hand = Examples(tuple(replace(row, input=f"Q: {row.input} A:") for row in ROWS))
    plain = searched(home, by_hand, template="none")
    assert losses(done) == losses(plain) != losses(searched(home, ROWS, template="none"))
    assert any("Q: {input} A:" in note for note in done.plan.notes) and not plain.plan.notes
    recipe = json.loads((pull(home, at("team/new"), tmp_path / "new").directory / "mixhub_recipe.json").read_text())
    assert recipe["search"]["usage"] == {"template": "Q: {input} A:"}
    assert recipe["search"]["examples_sha256"] == ROWS.digest, "of the rows as they were given"


def test_the_mix_of_a_search_carries_the_contract_that_was_applied_and_a_later_search_takes_it_up(
    home: Home, adapters: Callable[..., None]
) -> None:
    labels = {"ab": 'say "ab"\n', "no": "1"}
    used = SearchUsage("Q: {input}\n", "{{ messages }}", labels, ("</s>",))
    adapters()
    parts = pin_parts(home, [at("team/a"), at("team/b")])
    mix(home, parts, [0.5, 0.5], at("team/new"), options=MixOptions("exact"), search={"usage": used.as_dict()})
    shown = show(home, at("team/new")).facts
    assert shown["prompt template"] == "Q: {input}\n" and shown["chat template"] == "{{ messages }}"
    assert (shown["label texts"], shown["stop strings"]) == (labels, ["</s>"])
    searched(home, ROWS, into="team/found", template="Q: {input}")
    assert show(home, at("team/found")).facts["prompt template"] == "Q: {input}"
    later = new_plan(home, [at("team/found"), at("team/c")], ROWS)
    assert later.usage.template == "Q: {input}"


def test_label_texts_of_the_contract_stand_for_the_labels(home: Home, adapters: Callable[..., None]) -> None:
    adapters(UsageContract(label_texts=LABELS), None, None)
    spoken = Examples(tuple(replace(row, output=LABELS[row.output]) for row in LABELLED))
    assert losses(searched(home, LABELLED)) == losses(searched(home, spoken))
    ranked = searched(home, LABELLED, objective="acc")
    assert losses(ranked) == losses(searched(home, LABELLED, objective="acc", labels=LABELS))


def test_choices_of_the_rows_are_ranked(home: Home, adapters: Callable[..., None]) -> None:
    adapters()
    rows = examples_of([{"input": e.input, "output": LABELS[e.output], "choices": ["b", "de"]} for e in LABELLED])
    assert losses(searched(home, rows, objective="acc")) == losses(
        searched(home, LABELLED, objective="acc", labels=LABELS)
    )


def test_a_guarded_search_does_no_harm_and_shows_what_was_traded(home: Home, adapters: Callable[..., None]) -> None:
    adapters()
    guard = Examples((Example("hij", "kl"), Example("m", "no")))
    done = searched(home, ROWS, guard=guard, budget=14, into="team/guarded")
    as_guard = searched(home, guard, budget=5)
    assert as_guard.result.baselines is not None
    rows = {row.number: row for row in done.tradeoffs}
    chosen = next(t for t in done.result.trials if t.weights == done.result.weights)
    assert rows[1].guard == pytest.approx(as_guard.result.baselines.base.loss), "the base is on the front"
    measured = [row for row in done.tradeoffs if row.number == chosen.number]
    assert all(row.guard is not None and row.guard <= rows[1].guard * 1.0001 for row in measured)
    free = searched(home, ROWS, budget=14)
    assert losses(done) != losses(free)
    assert done.as_dict()["tradeoffs"]


def stop_after(batches: int) -> Callable[[Progress], None]:
    seen: list[Progress] = []

    def on_batch(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == batches:
            raise KeyboardInterrupt

    return on_batch


def test_a_stopped_search_goes_on_with_its_objective_contract_and_guard(
    home: Home, adapters: Callable[..., None]
) -> None:
    adapters(*[UsageContract(prompt_template="Q: {input}", stop_strings=("\n",))] * 3)
    settings: dict[str, Any] = {
        "guard": Examples((Example("hij", "kl"),)), "objective": "exact_match", "max_new_tokens": 3,
        "guard_tolerance": 0.01,
    }  # fmt: skip
    whole = searched(home, ROWS, **settings)
    stopped = searched(home, ROWS, on_batch=stop_after(3), **settings)
    assert stopped.result.stopped
    plan = stored_plan(home, stopped.uuid)
    assert (plan.usage, plan.guard, plan.options) == (whole.plan.usage, whole.plan.guard, whole.plan.options)
    assert run(home, plan).result.trials == whole.result.trials
    again = searched(home, ROWS, on_batch=stop_after(3), **settings)
    assert finish(home, stored_plan(home, again.uuid)).result.trials == stopped.result.trials


@pytest.mark.parametrize("kind", ["multiple_choice", "generate_until"])
def test_a_task_of_the_harness_brings_its_rows_prompts_and_metric(
    home: Home, adapters: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    adapters(*[UsageContract(prompt_template="Q: {input}")] * 3)
    (tmp_path / "docs.jsonl").write_text('{"q": "ab", "gold": 0}\n{"q": "cd", "gold": 1}\n{"q": "ef", "gold": 1}\n')
    metric = {"multiple_choice": "acc", "generate_until": "exact_match"}[kind]
    task = {
        "task": "tiny", "dataset_path": "json", "test_split": "test", "output_type": kind, "doc_to_text": "{{q}}:",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "docs.jsonl")}}, "doc_to_target": "{{gold}}",
        "doc_to_choice": ["no", "yes"] if kind == "multiple_choice" else None,
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 3}, "metric_list": [{"metric": metric}],
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({key: value for key, value in task.items() if value}))
    settings: dict[str, Any] = {"options": SearchOptions(budget=9), "limit": 2}
    plan = new_plan(home, [at(name) for name in NAMES], tmp_path / "tiny.yaml", **settings)
    assert [row.input.strip() for row in plan.examples] == ["ab:", "cd:"] and plan.usage.template is None
    assert plan.options.objective == ("acc" if kind == "multiple_choice" else f"lm-eval:{tmp_path}/tiny.yaml")
    whole = run(home, plan)
    stopped = run(home, plan, on_batch=stop_after(2))
    assert run(home, stored_plan(home, stopped.uuid)).result.trials == whole.result.trials


def test_an_unknown_objective_is_refused_before_a_search_is_stored(
    home: Home, adapters: Callable[..., None], contents: Callable[[], object]
) -> None:
    adapters()
    before = contents()
    with pytest.raises(SearchError, match="there is no objective 'accuracy'"):
        searched(home, ROWS, objective="accuracy")
    assert contents() == before


def test_the_command_line_takes_a_function_of_this_folder_and_a_guard(
    adapters: Callable[..., None],
    mixhub: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapters()
    (tmp_path / "mine.py").write_text(
        "def empty(predictions, examples):\n    return [float(not p) for p in predictions]"
    )
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input": e.input, "output": e.output}) + "\n" for e in ROWS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    words = ["search", *NAMES, "--examples", rows, "--budget", 7, "--objective", "mine:empty", "--guard", rows]
    said = mixhub(*words)
    assert said.code == 0, said.err
    assert "1 - mine:empty" in said.out and "not beaten in all three" in said.out
    data = mixhub(*words, "--json").json
    assert data["objective_name"] == "mine:empty" and data["tradeoffs"][0]["guard"] is not None
    refused = mixhub("search", *NAMES, "--examples", rows, "--objective", "mine:nothing")
    assert refused.code != 0 and "cannot load the objective mine:nothing" in refused.err


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"objective": "acc"}, BadExamples, "example 1 names no choices"),
        ({"labels": LABELS}, BadExamples, "generates text, so labels are not used"),
        ({"chat_template": "model"}, BadExamples, "has no chat template"),
        ({"objective": "exact_match", "optimizer": "adam"}, SearchError, "which the objective exact_match cannot give"),
        ({"guard": ROWS, "optimizer": "adam"}, SearchError, "which a guard set cannot give"),
    ],
    ids=str,
)
def test_what_cannot_be_scored_on_this_base_is_refused_before_the_search_is_stored(
    home: Home, adapters: Callable[..., None], contents: Callable[[], dict[str, object]],
    options: dict[str, Any], kind: type[ComposeError], said: str,
) -> None:  # fmt: skip
    adapters()
    before = contents()
    with pytest.raises(kind, match=said) as caught:
        searched(home, ROWS, **options)
    assert caught.value.remedy and contents() == before
