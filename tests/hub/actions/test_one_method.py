"""A search has one method; what an earlier version searched over several is shown and verified, and does not go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from hub.actions.publish import publish
from hub.actions.search import finish, run
from hub.actions.search_plan import SearchOptions, new_plan, stored_plan
from hub.actions.verify import verify
from hub.address import parse_address as at
from hub.client import Hub
from hub.errors import NotReproduced, UsageError
from hub.home import Home
from hub.report.page import search_page
from hub.report.search_report import stored_report
from storage import searches
from storage.models import SearchRow, TrialRow

Write = Callable[..., Path]
NAMES = ("team/a", "team/b", "team/c")


@pytest.fixture(autouse=True)
def three(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    for seed, name in enumerate(NAMES, start=1):
        publish(home, write_lora(f"s{seed}", seed=seed, scale=0.2), at(name), base=str(tiny_t5))


@pytest.mark.parametrize(
    "words",
    [
        ("--method", "exact,ties"),
        ("--method", "exact,nonsense"),
        ("--method", "ties", "--param", "density=0.2:0.8"),
        ("--method", "exact,ties", "--param", "density=0.3:0.9", "--no-gate"),
    ],
)
def test_several_methods_or_a_range_are_a_usage_error_that_says_to_run_two_searches(
    home: Home, few_shot: Path, mixhub: Callable[..., Any], words: tuple[str, ...]
) -> None:
    ran = mixhub("search", *NAMES, "--examples", few_shot, *words)
    assert ran.code == 2 and "run two searches" in ran.err, ran.err
    with home.read() as session:
        assert searches.every(session) == []


@pytest.mark.parametrize(
    "options", [{"method": ["exact", "ties"]}, {"method": "exact,ties"}, {"params": {"density": [0.3, 0.9]}}], ids=str
)
def test_from_python_too(home: Home, few_shot: Path, options: dict[str, Any]) -> None:
    with Hub(home.directory) as hub, pytest.raises(UsageError, match="run two searches"):
        hub.search(list(NAMES), few_shot, **options)


def test_bench_measures_one_method(few_shot: Path, mixhub: Callable[..., Any]) -> None:
    ran = mixhub("bench", *NAMES, "--examples", few_shot, "--method", "exact,ties")
    assert ran.code == 2 and "one --method" in ran.err


@pytest.mark.parametrize(
    "changed",
    [{"method": "exact,lorahub"}, {"method": "ties", "params": {"density": [0.3, 0.9]}}],
    ids=["methods", "range"],
)
def test_a_search_over_methods_of_an_earlier_version_is_shown_and_verified_and_does_not_go_on(
    home: Home, few_shot: Path, changed: dict[str, Any], mixhub: Callable[..., Any]
) -> None:
    options = SearchOptions(budget=14, optimizer="Cobyla", gate=False)
    done = run(home, new_plan(home, [at(name) for name in NAMES], few_shot, into=at("team/mix"), options=options))
    with home.write() as session:
        row = session.scalars(select(SearchRow).where(SearchRow.uuid == done.uuid)).one()
        row.config = {**row.config, "options": {**row.config["options"], **changed}}
        session.execute(update(TrialRow).where(TrialRow.search_id == row.id).values(method="exact", params={}))
    shown = mixhub("report", done.uuid)
    assert shown.code == 0 and "chose among methods" in " ".join(shown.err.split() + shown.out.split())
    found = stored_report(home, done.uuid)
    assert found.intervals == {} and len(found.trials) == 14 and found.weights and "All 14 trials" in search_page(found)
    assert mixhub("report").code == 0
    verified = verify(home, at("team/mix"))
    assert verified.reproduced and verified.score is not None and verified.unchecked == ()
    with pytest.raises(NotReproduced, match="several methods or a range"):
        verify(home, at("team/mix"), replay=True)
    for go_on in (run, finish):
        with pytest.raises(NotReproduced, match=f"several methods(.|\n)*mixhub report {done.uuid[:12]}"):
            go_on(home, stored_plan(home, done.uuid))
