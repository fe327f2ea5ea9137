"""What a search says of how far it can be trusted: stored, replayed, and in every report of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from compose.trials import Progress
from hub.actions.publish import publish
from hub.actions.search import SearchDone, finish, run
from hub.actions.search_plan import SearchOptions, new_plan, stored_plan
from hub.actions.verify import verify
from hub.address import parse_address as at
from hub.errors import NotReproduced
from hub.home import Home
from hub.report.page import search_page
from hub.report.search_report import stored_report
from storage.models import SearchRow

Write = Callable[..., Path]
NAMES = tuple(f"team/{letter}" for letter in "abcdef")
ALL = [("optimizer", "Cobyla"), ("optimizer", "fit"), ("optimizer", "adam"), ("preset", "lorahub")]


@pytest.fixture(autouse=True)
def six(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    """Six adapters of one base that are noise: more than the uniform mix of the best has."""
    for seed, name in enumerate(NAMES, start=1):
        publish(home, write_lora(f"s{seed}", seed=seed, scale=0.2), at(name), base=str(tiny_t5))


def searched(home: Home, few_shot: Path, *, into: str = "", on_batch: Any = None, **options: Any) -> SearchDone:
    plan = new_plan(
        home, [at(name) for name in NAMES], few_shot, into=at(into) if into else None,
        options=SearchOptions(**{"budget": 22, **options}),
    )  # fmt: skip
    return run(home, plan, on_batch=on_batch)


def stop(progress: Progress) -> None:
    if progress.evaluations >= 10:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "Cobyla", "gate": False},
        {"optimizer": "OnePlusOne", "gate": False, "workers": 2},
        {"optimizer": "Cobyla", "objective": "exact_match", "max_new_tokens": 2, "gate": False},
    ],
    ids=str,
)
def test_a_mix_is_verified_by_running_its_search_again(home: Home, few_shot: Path, options: dict[str, Any]) -> None:
    done = searched(home, few_shot, into="team/mix", **options)
    kinds = [trial.kind for trial in done.result.trials]
    assert kinds.count("top") == 1
    assert done.composed is not None
    again = verify(home, at("team/mix"), replay=True)
    assert again.reproduced and again.replay is not None and again.replay.same == len(done.result.trials)


@pytest.mark.parametrize(
    ("changed", "said"), [({"seeds": 2}, "several seeds"), ({"l1": 0.2}, "l1"), ({"groups": "layers:2"}, "by Cobyla")]
)
def test_a_stored_search_that_did_what_is_not_done_any_more_is_shown_and_verified_and_does_not_go_on(
    home: Home, few_shot: Path, changed: dict[str, Any], said: str, mixhub: Callable[..., Any]
) -> None:
    done = searched(home, few_shot, into="team/mix", optimizer="Cobyla", gate=False)
    with home.write() as session:
        row = session.scalars(select(SearchRow).where(SearchRow.uuid == done.uuid)).one()
        row.config = {**row.config, "options": {**row.config["options"], "seeds": 1, "l1": None, **changed}}
    assert mixhub("report", done.uuid).code == 0
    verified = verify(home, at("team/mix"))
    assert verified.reproduced and verified.score is not None and verified.unchecked == ()
    with pytest.raises(NotReproduced, match=said):
        verify(home, at("team/mix"), replay=True)
    for go_on in (run, finish):
        with pytest.raises(NotReproduced, match=f"made with .*{said}.*\n  mixhub report {done.uuid[:12]}"):
            go_on(home, stored_plan(home, done.uuid))
    with home.read() as session:
        assert session.scalars(select(SearchRow.status).where(SearchRow.uuid == done.uuid)).one() == "finished"


def test_a_search_from_before_the_uniform_mix_of_the_best_was_scored_asks_what_it_asked(
    home: Home, few_shot: Path
) -> None:
    old = searched(home, few_shot, optimizer="Cobyla", top=0, on_batch=stop)
    with home.write() as session:
        row = session.scalars(select(SearchRow).where(SearchRow.uuid == old.uuid)).one()
        options = {key: value for key, value in row.config["options"].items() if key not in ("seeds", "gate", "top")}
        row.config = {**row.config, "options": options}
    resumed = run(home, stored_plan(home, old.uuid))
    assert resumed.result.trials[: len(old.result.trials)] == old.result.trials
    assert resumed.result.trials == searched(home, few_shot, optimizer="Cobyla", top=0).result.trials
    assert resumed.result.gate is not None, "it costs no evaluation"


@pytest.mark.parametrize("option", ALL, ids=str)
def test_every_report_has_the_intervals_the_gate_and_the_warning(
    home: Home, few_shot: Path, mixhub: Callable[..., Any], option: tuple[str, str]
) -> None:
    done = searched(home, few_shot, **dict([option]))
    data, report = done.as_dict(), stored_report(home, done.uuid)
    expected = {"base", "mix"} if option[0] == "preset" else {"base", "uniform", "best_single", "mix"}
    assert done.intervals.keys() == expected and data["intervals"] == {n: asdict(i) for n, i in done.intervals.items()}
    mix = done.intervals["mix"]
    assert mix.low < mix.mean < mix.high
    if option[0] != "preset":
        assert mix.mean == pytest.approx(done.result.loss)
        assert any(name.startswith("best single: team/") for name in report.intervals)
    shown = mixhub("report", done.uuid)
    page = " ".join(search_page(report).split())
    ends = f"{mix.low:.3f} to {mix.high:.3f}"
    assert ends in shown.out and f"{mix.low:.4f} to {mix.high:.4f}" in page
    assert mixhub("report", done.uuid, "--json").json["intervals"]["mix"]["low"] == mix.low
    few = "There are fewer examples (4) than weights (6)"
    assert few in " ".join(shown.out.split()) and few in page and any(few in note for note in data["notes"])
    assert done.result.gate is not None and done.result.gate.sentence in page.replace("&#39;", "'")
    assert "held-out loss" in shown.out
    assert asdict(done.result.gate)["estimates"] == data["gate"]["estimates"]


def test_the_commands_say_the_interval_and_judge_what_was_stopped(
    home: Home, few_shot: Path, mixhub: Callable[..., Any]
) -> None:
    words = ["search", *NAMES[:3], "--examples", few_shot, "--budget", 20]
    ran = mixhub(*words, "--optimizer", "OnePlusOne", "--no-gate")
    assert ran.code == 0 and "90 % interval" in ran.out and "held-out" not in ran.out, ran.err
    for optimizer in ("Cobyla", "fit", "adam"):
        stopped = searched(home, few_shot, optimizer=optimizer, on_batch=stop)
        done = finish(home, stored_plan(home, stopped.uuid))
        assert done.result.gate is not None and done.result.gate == stopped.result.gate
        assert done.result.gate.sentence in done.result.notes
