"""The hub from Python: the four journeys on a home of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compose.errors import BadExamples
from hub.client import Hub
from hub.errors import UsageError
from storage.errors import NotFound

Write = Callable[..., Path]
ROWS = [{"input": "abc", "output": "cba"}, {"input": "hello", "output": "olleh"}]


def test_publish_compose_search_and_export(home_folder: Path, write_lora: Write, tiny_t5: Path, tmp_path: Path) -> None:
    with Hub(home=home_folder) as hub:
        for seed, name in enumerate("ab", start=1):
            folder = write_lora(name, seed=seed, scale=0.2)
            assert hub.publish(str(folder), f"team/{name}", base=str(tiny_t5)).version == "v1"
        mixed = hub.compose({"team/a": 0.6, "team/b@v1": -0.3}, "team/mix", method="svd", rank=2)
        assert mixed.published.version == "v1" and mixed.retained_energy is not None
        assert [a.address for a in hub.find(base=str(tiny_t5))] == ["team/a", "team/b", "team/mix"]
        batches: list[int] = []
        found = hub.search(
            ["team/a", "team/b"], ROWS, into="team/found", budget=10, optimizer="Cobyla", method="lorahub",
            gate=False, on_batch=lambda p: batches.append(p.evaluations),
        )  # fmt: skip
        assert batches[-1] == 10 and found.composed is not None
        halves = hub.search(["team/a", "team/b"], ROWS, budget=24, groups="layers:2").result
        assert halves.groups == ("encoder layer 0", "decoder layer 0") and len(halves.weights) == 4
        assert hub.show("team/found@v1").parents[0].address.startswith("team/")
        assert hub.export("team/found", tmp_path / "out").directory.joinpath("adapter_config.json").is_file()
        assert hub.export("team/found", tmp_path / "fused", fused=True).fused
        assert hub.pull("team/mix@v1", tmp_path / "pulled").files
        hub.promote("team/a@v1", "prod")
        assert [m.label for m in hub.history("team/a", "prod")] == ["v1"]
        hub.delete("team/found")
        with pytest.raises(NotFound):
            hub.show("team/found")


def test_the_home_is_that_of_the_environment_unless_one_is_given(
    home_folder: Path, write_lora: Write, tmp_path: Path
) -> None:
    with Hub() as hub:
        assert hub.home.directory == home_folder
        hub.publish(write_lora("a"), "team/a")
    with Hub(home=tmp_path / "other") as hub:
        assert hub.find() == []


def test_a_search_can_be_resumed_from_python(home_folder: Path, write_lora: Write, tiny_t5: Path) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with Hub(home=home_folder) as hub:
        hub.publish(write_lora("a", scale=0.2), "team/a", base=str(tiny_t5))
        stopped = hub.search(["team/a"], ROWS, budget=6, optimizer="Cobyla", method="lorahub", on_batch=stop)
        assert stopped.result.stopped
        resumed = hub.resume(stopped.uuid)
        assert resumed.uuid == stopped.uuid and resumed.result.evaluations == 6
        stopped = hub.search(["team/a"], ROWS, budget=6, optimizer="Cobyla", method="lorahub", on_batch=stop)
        finished = hub.finish(stopped.uuid)
        assert not finished.result.stopped and finished.result.trials == stopped.result.trials


@pytest.mark.parametrize(
    ("rows", "named"),
    [([], "no examples"), ([{"input": "a"}], "row 1"), ([{"input": "a", "output": ""}], "row 1"),
     ([ROWS[0], {"input": 3, "output": "x"}], "row 2")],
)  # fmt: skip
def test_examples_given_as_rows_are_checked_like_those_of_a_file(
    home_folder: Path, write_lora: Write, tiny_t5: Path, rows: list[dict[str, str]], named: str
) -> None:
    with Hub(home=home_folder) as hub:
        hub.publish(write_lora("a"), "team/a", base=str(tiny_t5))
        with pytest.raises(BadExamples, match=named):
            hub.search(["team/a"], rows, budget=3)


def test_two_spellings_of_one_address_are_named(home_folder: Path, write_lora: Write) -> None:
    with Hub(home=home_folder) as hub:
        hub.publish(write_lora("a"), "team/a")
        with pytest.raises(UsageError, match="same adapter"):
            hub.compose({"team/a": 0.5, "team/a@v1": 0.5}, "team/mix", allow_unbound=True)
