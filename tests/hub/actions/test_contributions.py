"""Leaving adapters out after a search is part of it: interrupted there, the search resumes to the same result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hub.actions.publish import publish
from hub.actions.search import run
from hub.actions.search_plan import SearchOptions, new_plan, stored_plan
from hub.address import parse_address as at
from hub.home import Home
from storage import searches


def test_ctrl_c_while_contributions_are_scored_stops_the_search_and_nothing_is_published_twice(
    home: Home, write_lora: Callable[..., Path], few_shot: Path, tiny_t5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        publish(home, write_lora(f"s{seed}", seed=seed, scale=0.2), at(f"team/{seed}"), base=str(tiny_t5))
    plan = new_plan(
        home,
        [at("team/1"), at("team/2")],
        few_shot,
        into=at("team/mix"),
        options=SearchOptions(budget=9, optimizer="Cobyla", gate=False),
    )

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("hub.actions.search.explain", interrupted)
        run(home, plan)
    with home.read() as session:
        [row] = searches.every(session)
    assert row.status == "stopped" and len(stored_plan(home, row.uuid).replay) == 9
    resumed = run(home, stored_plan(home, row.uuid))
    assert resumed.result.trials == run(home, plan).result.trials and resumed.explanation is not None
    assert resumed.composed is not None and resumed.composed.published.version == "v1"
