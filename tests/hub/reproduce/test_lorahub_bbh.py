"""The reproduction of LoRAHub's table: the same draws as its code, and a dry run of the whole command offline."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose.errors import BadExamples
from compose.examples import Example
from hub.demo.run import CONTENT, index
from hub.reproduce.lorahub_bbh import (
    Material,
    Run,
    Settings,
    accuracy,
    draw_examples,
    draw_modules,
    reproduce,
    table_rows,
)
from hub.reproduce.public_material import module_names

Command = Callable[..., Any]
DRY = ("reproduce", "lorahub-bbh", "--dry-run", "--tasks", "cap-dash", "--steps", 2, "--rows", 2)


def test_modules_and_examples_are_drawn_as_the_papers_code_draws_them() -> None:
    names = module_names()
    assert len(names) == len(set(names)) == 196 and all(name.startswith("lorahub/flan_t5_large-") for name in names)
    rows = [Example(f"question {i}", f"answer {i}") for i in range(11)]
    state = random.getstate()
    try:
        for seed in (1, 5):
            random.seed(seed)
            assert draw_modules(names, seed) == random.sample(list(names), 20)
        random.seed(42)
        shuffled = list(rows)
        random.shuffle(shuffled)
    finally:
        random.setstate(state)
    assert list(draw_examples(rows)) == shuffled[:5]
    assert sorted(draw_modules(["c", "a", "b"], 1)) == ["a", "b", "c"]


def test_case_full_stops_and_outer_space_do_not_count_and_all_else_does() -> None:
    assert accuracy([" Yes.", "no", "(A)", "1 2"], ["yes", "No.", "(a) ", "12"]) == 75.0


def test_a_task_has_the_mean_and_the_best_of_its_seeds_and_waits_until_it_has_one() -> None:
    runs = [
        Run("a", 0, 10.0),
        Run("a", 1, 20.0),
        Run("a", 2, 60.0),
        Run("b", 0, 30.0),
        Run("b", 1, 0.0),
        Run("c", 0, 99.0),
    ]
    assert [(row.task, row.base, row.mean, row.best) for row in table_rows(runs)] == [
        ("a", 10.0, 40.0, 60.0), ("b", 30.0, 0.0, 0.0), ("mean of 2", 20.0, 20.0, 30.0)
    ]  # fmt: skip
    assert table_rows([]) == []


def test_a_dry_run_goes_through_every_step_offline_and_its_log_is_not_run_again(
    mixhub: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "runs.jsonl"
    first = mixhub(*DRY, "--seeds", 1, "--log", log, "--json").json
    assert [(run["task"], run["seed"]) for run in first["runs"]] == [("cap-dash", 0), ("cap-dash", 1)]
    assert len(first["runs"][1]["weights"]) == len(first["runs"][1]["modules"]) == len(index()["adapters"])
    assert [row["task"] for row in first["rows"]] == ["cap-dash", "mean of 1"] and first["dry_run"]
    more = mixhub(*DRY, "--seeds", 2, "--log", log, "--json").json
    assert more["runs"][:2] == first["runs"] and more["runs"][2]["seed"] == 2
    with monkeypatch.context() as patched:
        patched.setattr("hub.reproduce.lorahub_bbh._run", lambda *_: pytest.fail("nothing is run twice"))
        shown = mixhub(*DRY, "--seeds", 2, "--log", log)
        assert shown.code == 0 and "cap-dash" in shown.out and "the numbers are not" in shown.err
    other = mixhub(*DRY[:-1], 3, "--seeds", 1, "--log", log)
    assert other.code == 2 and "other settings" in other.err
    log.write_text("{}\n")
    assert "line 1 is no finished run" in mixhub(*DRY, "--log", log).err


def test_the_default_search_may_take_the_place_of_the_papers(mixhub: Command) -> None:
    words = ("reproduce", "lorahub-bbh", "--dry-run", "--tasks", "cap-dash", "--seeds", 1, "--rows", 1)
    ran = mixhub(*words, "--search", "default", "--json").json
    assert ran["settings"]["search"] == "default" and len(ran["runs"][1]["weights"]) == len(index()["adapters"])


def test_what_cannot_be_run_is_one_clear_error(mixhub: Command, tmp_path: Path) -> None:
    unknown = mixhub("reproduce", "lorahub-bbh", "--dry-run", "--tasks", "nothing")
    assert unknown.code == 2 and "cap-dash" in unknown.err
    assert "brings its own" in mixhub(*DRY, "--data", tmp_path).err
    offline = mixhub("reproduce", "lorahub-bbh", "--cache", tmp_path)
    assert offline.code == 1 and "google/flan-t5-large" in offline.err and "--base" in offline.err


def test_local_copies_take_the_place_of_downloads(mixhub: Command, tmp_path: Path) -> None:
    """The real table's way through the command, on copies of the demo under the modules' names."""
    task = tmp_path / "data" / "snarks"
    task.mkdir(parents=True)
    rows = [json.dumps({"context": f"up: ab{i}", "completion": f"AB{i}"}) + "\n" for i in range(6)]
    for name in ("example", "zero_shot"):
        (task / f"{name}.jsonl").write_text("".join(rows))
    shipped = [adapter["name"] for adapter in index()["adapters"]]
    (tmp_path / "modules").mkdir()
    for i, name in enumerate(module_names()):
        (tmp_path / "modules" / name.removeprefix("lorahub/")).symlink_to(
            CONTENT / "adapters" / shipped[i % len(shipped)]
        )
    found = mixhub(
        "reproduce", "lorahub-bbh", "--base", CONTENT / "base", "--adapters", tmp_path / "modules", "--data",
        tmp_path / "data", "--cache", tmp_path, "--seeds", 1, "--steps", 2, "--rows", 1, "--json",
    ).json  # fmt: skip
    assert found["runs"][1]["modules"] == draw_modules(module_names(), 1) and not found["dry_run"]


def test_a_task_file_of_another_layout_names_its_line(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "zero_shot.jsonl").write_text('{"context": "a", "completion": "b"}\n')
    (folder / "example.jsonl").write_text('{"context": "a", "completion": "b"}\n{"input": "a"}\n')
    material = Material(CONTENT / "base", ("upper",), lambda name: CONTENT / "adapters" / name, tmp_path)
    with pytest.raises(BadExamples, match=r"odd/example\.jsonl line 2"):
        list(reproduce(material, [], Settings()))
