"""`mixhub bench` and the number formats of a search, on a tiny base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose import device
from compose.errors import SearchError
from compose.scoring import make_scorer
from hub.actions import search_plan

Write = Callable[..., Path]
Run = Callable[..., Any]


@pytest.fixture
def two(mixhub: Run, write_lora: Write, tiny_t5: Path) -> None:
    """team/a@v1 and team/b@v1, bound to one base."""
    for seed, name in enumerate("ab", start=1):
        assert mixhub("publish", write_lora(name, seed=seed, scale=0.2), f"team/{name}", "--base", tiny_t5).code == 0


@pytest.mark.usefixtures("two")
def test_bench_says_how_fast_mixes_are_scored_and_which_chunk_is_best(mixhub: Run, few_shot: Path) -> None:
    command = ("bench", "team/a", "team/b", "--examples", few_shot, "--population", "3", "--repeats", "1")
    found = mixhub(*command, "--json").json
    assert found["candidates_per_second"] == max(found["by_chunk"].values()) > 0
    assert (found["method"], found["adapters"]) == (search_plan.DEFAULT_METHOD, 2)
    assert str(found["best_chunk"]) in found["by_chunk"]
    assert sum(found["split"].values()) == pytest.approx(1)
    assert set(found["split"]) == {"merge", "forward", "output layer", "rest"}
    assert all(share > 0 for share in found["split"].values())
    assert found["flop_per_candidate"] > 0 and found["flop_per_second"] < found["matmul_rate"]
    assert found["memory_bytes"] > 1 << 20
    text = mixhub(*command, "--chunk-tokens", "64").out
    assert "2 adapters by exact" in text and "candidates per second" in text and "--chunk-tokens 64" in text


@pytest.mark.usefixtures("two")
def test_bench_measures_the_rows_that_a_search_would_score(mixhub: Run, few_shot: Path, tmp_path: Path) -> None:
    command = ("bench", "team/a", "--examples", few_shot, "--population", "1", "--repeats", "1", "--chunk-tokens", "64")
    plain = mixhub(*command, "--json").json
    templated = mixhub(*command, "--template", "say it the other way round: {input}", "--json").json
    assert templated["flop_per_candidate"] > 1.5 * plain["flop_per_candidate"], "the longer prompts are scored"
    labels = tmp_path / "labels.json"
    labels.write_text('{"x": "a text", "y": "another"}')
    ran = mixhub(*command, "--labels", labels)
    assert ran.code != 0 and "labels are not used" in ran.err and "--labels" in ran.err, "as a search refuses them"


@pytest.mark.usefixtures("two")
def test_bench_measures_mixes_by_groups_of_modules(
    mixhub: Run, few_shot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[tuple[str, ...], Any]] = []

    def recording(*given: Any, **named: Any) -> Any:
        scorer = make_scorer(*given, **named)
        mix = scorer._population.stack.mix  # type: ignore[attr-defined]  # not in the protocol
        names = scorer.adapter_names

        def mixed(rows: Any) -> Any:
            asked.append((names, rows))
            return mix(rows)

        object.__setattr__(scorer._population.stack, "mix", mixed)  # type: ignore[attr-defined]  # as above
        return scorer

    monkeypatch.setattr("compose.scoring.measurement.make_scorer", recording)
    command = ("bench", "team/a", "team/b", "--examples", few_shot, "--population", "3", "--repeats", "1")
    found = mixhub(*command, "--groups", "layers:2", "--json").json
    assert found["groups"] == ["encoder layer 0", "decoder layer 0"] and found["adapters"] == 2
    assert found["candidates_per_second"] > 0 and sum(found["split"].values()) == pytest.approx(1)
    assert asked[0][0] == tuple(f"team/{a} [{group} layer 0]" for a in "ab" for group in ("encoder", "decoder"))
    rows = asked[-1][1]
    assert rows.shape == (3, 4) and bool((rows[:, 0] != rows[:, 1]).all()), "every group has a weight of its own"
    text = mixhub(*command, "--chunk-tokens", "64", "--groups", "encoder.*,other").out
    assert "2 adapters by exact, each with 2 weights: encoder.*, other" in " ".join(text.split())
    assert mixhub(*command, "--chunk-tokens", "64", "--json").json["groups"] == []


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("groups", "said"),
    [("layers:3", "2 layers in 2 stacks"), ("depth", "no group of modules 'depth'"), ("encoder.*", "fit no group")],
)
def test_bench_refuses_the_groups_that_a_search_refuses(mixhub: Run, few_shot: Path, groups: str, said: str) -> None:
    ran = mixhub("bench", "team/a", "--examples", few_shot, "--groups", groups)
    assert ran.code != 0 and said in ran.err


@pytest.mark.usefixtures("two")
def test_a_search_in_bfloat16_shows_losses_in_float32(mixhub: Run, few_shot: Path) -> None:
    command = ("search", "team/a", "team/b", "--examples", few_shot, "--budget", "6", "--json")
    coarse, fine = mixhub(*command, "--dtype", "bfloat16", "--chunk-tokens", "64").json, mixhub(*command).json
    assert any("Searched in bfloat16" in note for note in coarse["notes"])
    assert not any("bfloat16" in note for note in fine["notes"])
    base = next(trial for trial in fine["trials"] if trial["kind"] == "base")
    rough = next(trial for trial in coarse["trials"] if trial["kind"] == "base")
    assert rough["loss"] != base["loss"]
    assert coarse["baselines"]["base"]["loss"] == pytest.approx(base["loss"], rel=1e-5)


@pytest.mark.usefixtures("two")
def test_auto_is_settled_before_the_search_is_stored(
    mixhub: Run, few_shot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_bfloat16", lambda _device: True)
    found = mixhub("search", "team/a", "team/b", "--examples", few_shot, "--budget", "5", "--dtype", "auto", "--json")
    assert any("Searched in bfloat16" in note for note in found.json["notes"])


@pytest.mark.usefixtures("two")
def test_unknown_formats_and_chunks_are_refused(mixhub: Run, few_shot: Path) -> None:
    ran = mixhub("search", "team/a", "--examples", few_shot, "--dtype", "int3")
    assert ran.code == 2 and "there is no dtype 'int3'" in ran.err and "float32" in ran.err
    assert mixhub("bench", "team/a", "--examples", few_shot, "--chunk-tokens", "0").code == 2


@pytest.mark.parametrize(("has", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_where_the_device_computes_in_it(
    has: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_bfloat16", lambda _device: has)
    assert device.scoring_dtype("auto", "cpu") == expected
    assert device.scoring_dtype("bfloat16", "cpu") == "bfloat16"
    with pytest.raises(SearchError, match="no dtype"):
        device.scoring_dtype("float8", "cpu")
