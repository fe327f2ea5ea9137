"""What a person sees of a search: contributions with their errors, harmful adapters marked."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from compose.scoring.tie_break import with_tie_break
from hub.actions.publish import publish
from hub.address import parse_address as at
from hub.cli.output import Output, facts_lines, table
from hub.cli.search_tables import contribution_lines, search_tables
from hub.home import Home
from hub.metric_of_loss import metric_of
from hub.report.search_report import SearchReport

Write = Callable[..., Path]


def report_of(contributions: Sequence[Mapping[str, Any]] = (), **more: Any) -> SearchReport:
    """A finished search by exact match over 4 examples."""
    config = {"base": "b", "options": {"budget": 4, "objective": "exact_match"}, "examples": [{}] * 4}
    result = {"weights": [1.0], "explanation": {"contributions": contributions, "evaluations": 5}, **more}
    now = datetime(2026, 1, 2, tzinfo=UTC)
    return SearchReport("ab" * 16, "finished", now, now, ("t/a",), config, "0" * 64, result, ())


def text_of(lines: Sequence[RenderableType]) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    for line in lines:
        console.print(line)
    return console.export_text()


def test_an_adapter_without_which_the_mix_does_better_is_marked() -> None:
    found = report_of([
        {"name": "t/good", "loss_without": 0.76, "gain": 0.5, "error": 0.125},
        {"name": "t/[bad]", "loss_without": 0.01, "gain": -0.25, "error": 0.01},
    ])  # fmt: skip
    good, bad = [row for row in text_of(contribution_lines(found)).splitlines() if "t/" in row]
    assert good.split() == ["t/good", "0.2500", "+0.5000", "±", "0.1250"]
    assert bad.split() == ["t/[bad]", "1.0000", "-0.2500", "±", "0.0100", "better", "without", "it"]
    assert contribution_lines(report_of()) == []


@pytest.mark.parametrize(("gain", "error"), [(-0.0002, 0.0003), (-0.00001, 0.0), (-0.3, 0.2), (-0.5, None)])
def test_noise_is_not_marked(gain: float, error: float | None) -> None:
    found = report_of([{"name": "t/idle", "loss_without": 0.2, "gain": gain, "error": error}])
    assert found.harmful == [] and "better without it" not in text_of(contribution_lines(found))
    assert "-0.0000" not in text_of(contribution_lines(found))


def test_a_search_by_metric_shows_the_metric_and_not_only_what_was_minimised() -> None:
    estimates: list[dict[str, Any]] = [
        {"name": "the mix", "loss": 0.27, "low": 0.01, "high": 0.51, "ahead_of_base": 1.0}
    ]
    gate = {"estimates": estimates, "folds": 4, "kept": "the mix", "sentence": "The mix was kept."}
    found = report_of(loss=0.26, baselines={"base": {"loss": 1.19}}, gate=gate)
    shown = text_of(search_tables(found))
    base, mix, held_out = [row.split() for row in shown.splitlines() if row.startswith(("base", "found", "the mix"))]
    assert base == ["base", "0.0000", "1.1900"] and mix[-2:] == ["0.7500", "0.2600"]
    assert held_out == ["the", "mix", "(kept)", "0.7500", "0.500", "to", "1.000", "0.2700", "100%"]
    assert found.verdict == "The mix was kept. Exact match on those examples: 0.750 (the mix)."
    assert found.as_dict()["metric"]["values"] == {"base": 0.0, "mix": 0.75}
    assert "hopeful" not in shown
    estimates[0]["hopeful"] = True
    shown = text_of(search_tables(report_of(loss=0.26, baselines={"base": {"loss": 1.19}}, gate=gate)))
    assert "the mix (kept) *" in shown and "* hopeful: its trials were asked for with all examples in view" in shown


def test_the_tables_of_a_report_have_the_guard_and_what_was_kept_and_a_failure_its_progress() -> None:
    front = [{"number": 1, "target": 0.25, "guard": 0.75, "adapters": 1}]
    found = report_of(loss=0.26, tradeoffs=front)
    assert "not beaten" not in text_of(search_tables(found)), "without a guard it is no question"
    shown = text_of(search_tables(replace(found, config={**found.config, "guard": [{}]})))
    assert "not beaten in all three" in shown and "0.7500" in shown
    failed = replace(found, status="failed", result=None, error="out of memory")
    assert text_of(search_tables(failed)) == "0 of 4 evaluations were made\n" and "out of memory" in failed.verdict


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e6) | st.just(math.inf)), min_size=1, max_size=64))
def test_the_metric_is_read_back_from_a_mean_loss_whatever_broke_the_ties(rows: list[tuple[bool, float]]) -> None:
    right, losses = (np.array([column], dtype=np.float64) for column in zip(*rows, strict=True))
    loss = float(with_tie_break(1 - right, losses).mean())
    exact, graded = metric_of("exact_match", len(rows)), metric_of("f1", len(rows))
    assert exact is not None and graded is not None and metric_of("loss", 4) is None
    assert exact.of(loss) == pytest.approx(right.mean(), abs=1e-9)
    assert graded.of(loss) - 1e-9 <= right.mean() <= graded.of(loss) + 1 / (len(rows) + 1) + 1e-9


def test_the_preset_is_told_in_the_loss_of_its_interval_and_beside_the_base(
    mixhub: Callable[..., Any], home: Home, write_lora: Write, few_shot: Path, tiny_t5: Path
) -> None:
    publish(home, write_lora("s1", seed=1, scale=0.2), at("team/1"), base=str(tiny_t5))
    ran = mixhub("search", "team/1", "--examples", few_shot, "--budget", 4, "--preset", "lorahub")
    rows = [row.split() for row in ran.out.splitlines() if row.startswith(("base ", "found "))]
    assert [row[0] for row in rows] == ["base", "found"]
    for loss, low, _, high in (row[-4:] for row in rows):
        assert float(low) - 1e-3 <= float(loss) <= float(high) + 1e-3


def test_a_finished_search_shows_and_stores_what_each_adapter_contributes_and_counts_it_apart(
    mixhub: Callable[..., Any], home: Home, write_lora: Write, few_shot: Path, tiny_t5: Path
) -> None:
    for seed in (1, 2, 3):
        publish(home, write_lora(f"s{seed}", seed=seed, scale=0.2), at(f"team/{seed}"), base=str(tiny_t5))
    words = ("search", "team/1", "team/2", "team/3", "--examples", few_shot, "--budget", 14,
             "--optimizer", "Cobyla", "--method", "lorahub", "--no-gate")  # fmt: skip
    data = mixhub(*words, "--json").json
    used = [name for name, weight in zip(data["adapters"], data["weights"], strict=True) if weight]
    explained = data["explanation"]
    assert sorted(one["name"] for one in explained["contributions"]) == used
    assert data["evaluations"] == 14 and explained["evaluations"] == 3 + len(used)
    means = {name: sum(losses) / len(losses) for name, losses in explained["example_losses"].items()}
    for one in explained["contributions"]:
        assert abs(one["gain"] - (one["loss_without"] - means["mix"])) < 1e-9
    assert abs(means["mix"] - data["loss"]) < 1e-4 * data["loss"]
    assert "loss without the adapter, minus with it" in mixhub(*words).out


def test_a_digest_is_not_broken_in_a_pipe(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    digest = "0123456789abcdef" * 4
    Output(as_json=False).result({}, facts_lines({"weights sha256": digest}), table("", ("a", "b"), [(digest, digest)]))
    assert capfd.readouterr().out.count(digest) == 3
