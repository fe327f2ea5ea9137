"""What a person sees of a search: contributions with their errors, harmful adapters marked."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from compose.contributions import Contribution, Explanation
from hub.actions.publish import publish
from hub.address import parse_address as at
from hub.cli.search_report import contribution_lines
from hub.home import Home

Write = Callable[..., Path]


def test_an_adapter_without_which_the_mix_does_better_is_marked() -> None:
    found = Explanation(
        (Contribution("t/good", 0.8, 1.5, 0.5, 0.125), Contribution("t/[bad]", -0.3, 0.75, -0.25, None)), {}, 5
    )
    console = Console(width=100, record=True, file=io.StringIO())
    for line in contribution_lines(found):
        console.print(line)
    good, bad = [row for row in console.export_text().splitlines() if "t/" in row]
    assert good.split() == ["t/good", "+0.5000", "±", "0.1250"]
    assert bad.split() == ["t/[bad]", "-0.2500", "better", "without", "it"]
    assert contribution_lines(None) == [] == contribution_lines(Explanation((), {}, 2))


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
