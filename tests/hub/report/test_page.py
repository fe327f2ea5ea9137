"""The page of a search: complete, self-contained, and safe whatever the texts hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hub.actions.publish import publish
from hub.address import parse_address as at
from hub.client import Hub
from hub.home import Home
from hub.report.page import search_page
from hub.report.search_report import SearchReport, stored_report
from storage.errors import NotFound
from storage.searches import Trial

Write = Callable[..., Path]
VOID = {"meta", "circle", "line", "polyline"}


class Page(HTMLParser):
    """Tags that were opened, attributes that name something elsewhere, the visible text; open tags must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [f"{name}={value}" for name, value in attrs if name in {"src", "href", "onclick", "onload"}]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


NASTY = "</td><script>alert(1)</script><img src=x onerror=alert(2)> & \"'"


@pytest.fixture
def report() -> SearchReport:
    """A finished search of three adapters, every text of which is hostile."""
    trials = [("base", 2.0), ("uniform", math.inf), ("single", 1.5), ("single", 1.8), ("single", 9.0), ("ask", 1.0)]
    return SearchReport(
        "ab" * 16, "finished", datetime(2026, 1, 2, tzinfo=UTC), None, ("t/a", "t/b", "t/c"),
        {
            "base": NASTY, "options": {"budget": 6, "optimizer": None, "method": NASTY},
            "examples": [{"input": NASTY, "output": "yes"}, {"input": "x" * 5000, "output": "no"}],
            "preselection": {"considered": [{"kept": False, "name": NASTY, "loss": None, "reason": NASTY}]},
        },
        "0" * 64,
        {
            "weights": [0.8, -0.3, 0.0], "loss": 1.0, "fell_back": None, "notes": [NASTY], "optimizer": "Cobyla",
            "published": "t/mix@v1",
            "baselines": {"base": {"loss": 2.0}, "uniform": {"loss": None}, "best_single": {"loss": 1.5},
                          "best_single_name": "t/a"},
            "explanation": {
                "contributions": [
                    {"name": "t/a", "weight": 0.8, "loss_without": 1.7, "gain": 0.7, "error": 0.1},
                    {"name": "t/b", "weight": -0.3, "loss_without": 0.9, "gain": -0.1, "error": 0.04},
                ],
                "example_losses": {"mix": [0.5, 1.5], "base": [3.0, 1.0]}, "evaluations": 4,
            },
        },
        tuple(Trial(n, kind, (0.8, -0.3, 0.0), loss, loss, 0.1) for n, (kind, loss) in enumerate(trials, 1)),
    )  # fmt: skip


def test_it_runs_nothing_and_loads_nothing_and_shows_hostile_texts_as_text(report: SearchReport) -> None:
    page = Page(search_page(report))
    assert not {"script", "img", "link", "iframe"} & set(page.tags) and page.links == []
    assert "http" not in search_page(report).replace("http-equiv", "")
    assert page.text.count("alert(1)") >= 5 and "<script>" in page.text
    assert "x" * 300 + " ..." in page.text and "x" * 400 not in page.text


def test_it_shows_verdict_losses_weights_contributions_examples_and_trials(report: SearchReport) -> None:
    page = Page(search_page(report))
    assert "The mix has a loss of 1.0000" in page.text and "0.5000 below" in page.text and "t/a, 1.5000" in page.text
    assert (
        "published as t/mix@v1" in page.text and "+0.8000" in page.text and "1 more adapter has weight 0" in page.text
    )
    assert "Better without: t/b." in page.text and "mean of all 2 2.0000 1.0000" in page.text
    assert page.tags.count("circle") == 5 and "1 trials had no finite loss" in page.text
    assert "prefers-color-scheme: dark" in search_page(report)


def test_a_search_that_kept_what_was_there_says_so_and_an_unfinished_one_too(report: SearchReport) -> None:
    kept = replace(report, result={**(report.result or {}), "fell_back": "base"})
    assert "No mix was better than base" in Page(search_page(kept)).text
    unfinished = replace(report, status="stopped", result=None)
    text = Page(search_page(unfinished)).text
    assert "no result yet; it is stopped" in text and "Weights" not in text
    assert "0 of 6 evaluations" in Page(search_page(replace(unfinished, trials=()))).text


def test_what_a_gate_said_is_the_verdict_with_its_estimates(report: SearchReport) -> None:
    estimates = [
        {"name": "the mix", "loss": 1.25, "low": 1.0, "high": None},
        {"name": "base", "loss": 2.0, "low": 1.9, "high": 2.1},
    ]
    gate = {"sentence": "Kept: the mix is ahead.", "estimates": estimates}
    text = Page(search_page(replace(report, result={**(report.result or {}), "gate": gate}))).text
    assert "Kept: the mix is ahead." in text and "1.2500 1.0000 to - base 2.0000 1.9000 to 2.1000" in text
    assert "hopeful" not in text
    estimates[0]["hopeful"] = True
    text = Page(search_page(replace(report, result={**(report.result or {}), "gate": gate}))).text
    assert "the mix * 1.2500" in text and "* hopeful: its trials were asked for with all examples in view." in text


def test_the_commands_write_the_page_of_a_real_search(
    mixhub: Callable[..., Any], home: Home, write_lora: Write, few_shot: Path, tiny_t5: Path, tmp_path: Path
) -> None:
    for seed in (1, 2):
        publish(home, write_lora(f"s{seed}", seed=seed, scale=0.2), at(f"team/{seed}"), base=str(tiny_t5))
    page = tmp_path / "page.html"
    words = ("search", "team/1", "team/2", "--examples", few_shot, "--budget", 10, "--optimizer", "Cobyla", "--json")
    done = mixhub(*words, "--report", page)
    assert done.code == 0 and Page(page.read_text("utf-8")).tags.count("circle") == 10
    uuid = done.json["search"]
    assert mixhub("report", uuid[:12], "--html", tmp_path / "again.html").code == 0
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()
    data = mixhub("report", uuid, "--json").json
    assert data["result"]["explanation"]["example_losses"].keys() == {"mix", "base", "best single"}
    assert len(data["trials"]) == 10 and data["verdict"] == stored_report(home, uuid).verdict
    shown = mixhub("report", uuid).out
    assert data["verdict"].split(",")[0] in shown and "base" in shown
    with Hub(home.directory) as hub:
        assert hub.report(uuid) == stored_report(home, uuid)
    refused = mixhub(*words, "--report", tmp_path / "missing" / "page.html")
    assert refused.code == 2 and "cannot be written" in refused.err
    with pytest.raises(NotFound, match="no search"):
        stored_report(home, "0" * 32)
    assert "mixhub report lists the searches" in mixhub("report", "0" * 32).err


def test_a_search_is_found_again_by_the_list_and_by_the_mix_that_it_found(
    mixhub: Callable[..., Any], home: Home, write_lora: Write, few_shot: Path, tiny_t5: Path
) -> None:
    assert "no search was made here yet" in mixhub("report").err
    for seed in (1, 2, 3):
        publish(home, write_lora(f"s{seed}", seed=seed, scale=0.2), at(f"team/{seed}"), base=str(tiny_t5))
    words = ("search", "team/1", "team/2", "team/3", "--examples", few_shot, "--budget", 14, "--optimizer", "Cobyla",
             "--method", "lorahub", "--no-gate", "--as", "team/found")  # fmt: skip
    uuid = mixhub(*words, "--json").json["search"]
    assert uuid in mixhub("show", "team/found").out
    assert mixhub("report", "team/found", "--json").json["search"] == uuid
    [listed] = mixhub("report", "--json").json
    assert (listed["search"], listed["status"], listed["published"]) == (uuid, "finished", "team/found@v1")
    row = mixhub("report").out.splitlines()[-1].split()
    assert row[0] == uuid[:12] and row[3:5] == ["finished", "team/1,"] and row[-1] == "team/found@v1"
    refused = mixhub("report", "team/1")
    assert refused.code == 1 and "team/1 was not found by a search" in refused.err
    assert mixhub("report", "--html", "page.html").code == 2


def test_it_names_the_adapter_of_each_weight_and_positive_bars_begin_at_the_left(report: SearchReport) -> None:
    text = Page(search_page(report)).text
    assert "t/a +0.800, t/b -0.300" in text and ", t/a" not in text
    assert '<i style="left:50%">' in search_page(report)
    positive = replace(report, result={**(report.result or {}), "weights": [0.8, 0.3, 0.0], "explanation": None})
    assert '<i style="left:0%">' in search_page(positive) and '<i style="left:50%">' not in search_page(positive)


def test_it_shows_all_that_the_search_showed(report: SearchReport) -> None:
    gate = {"estimates": [{"name": "m", "loss": 0.1, "low": 0.0, "high": 0.2, "ahead_of_base": 0.95}],
            "kept": "m", "folds": 4, "sentence": "Kept."}  # fmt: skip
    front = [{"number": 6, "target": 1.0, "guard": 0.4321, "adapters": 2}]
    config = {**report.config, "guard": [{}], "notes": ["Trained on example 1."], "usage": {"template": "Q: {input}"}}
    config["options"] = {"budget": 6, "objective": "exact_match"}
    full = replace(report, config=config, result={**(report.result or {}), "gate": gate, "tradeoffs": front})
    text = Page(search_page(full)).text
    for said in ("m (kept) 1.0000 0.1000 1.000 to 1.000 95 %", "6 * 1.0000 0.4321 2", "Trained on example 1.",
                 "template Q: {input}", "exact match, base", "trial, in the order of scoring"):  # fmt: skip
        assert said in text


def test_a_failed_search_says_why(report: SearchReport) -> None:
    failed = replace(report, status="failed", result=None, error="out of memory")
    assert "it is failed: out of memory" in Page(search_page(failed)).text
