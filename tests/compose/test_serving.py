"""Exports with a limit or for servers: what is cut is reported, what a server would refuse is refused here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compose.adapter import Factors, LoraAdapter, Replacement
from compose.errors import BadMethod, UnsupportedAdapter
from compose.export import save_adapter
from compose.peft_files import read_adapter

Make = Callable[..., LoraAdapter]


def test_cutting_keeps_the_best_and_reports_the_share_of_each_module(random_adapter: Make, tmp_path: Path) -> None:
    adapter = random_adapter(1, rank=4, scaling=0.7)
    report = save_adapter(adapter, tmp_path / "out", max_rank=2)
    back = read_adapter(tmp_path / "out")
    assert back.max_rank == report.rank == 2 and report.retained is not None
    kept = whole = 0.0
    for path, factors in adapter.modules.items():
        values = torch.linalg.svdvals(factors.delta()).square()
        assert report.retained[path] == pytest.approx(float(values[:2].sum() / values.sum()), rel=1e-6)
        lost = (factors.delta() - back.modules[path].delta().double()).square().sum()
        assert float(lost) == pytest.approx(float(values[2:].sum()), rel=1e-3)
        kept, whole = kept + float(values[:2].sum()), whole + float(values.sum())
    assert report.retained_energy == pytest.approx(kept / whole, rel=1e-6)
    lost = [factors.delta() - back.modules[path].delta() for path, factors in adapter.modules.items()]
    assert report.max_cut == pytest.approx(max(float(one.abs().max()) for one in lost), rel=1e-4) and report.max_cut > 0


def test_nothing_is_cut_where_the_rank_is_small_enough(random_adapter: Make, tmp_path: Path) -> None:
    report = save_adapter(random_adapter(1, rank=2), tmp_path / "out", max_rank=2)
    assert report.retained is None and report.retained_energy is None and report.max_cut is None
    with pytest.raises(BadMethod, match="whole number from 1"):
        save_adapter(random_adapter(1), tmp_path / "other", max_rank=0)


@pytest.mark.parametrize(("rank", "limit"), [(1, 1), (2, 8), (16, 16), (17, 32), (300, 320)])
def test_the_card_says_how_to_start_vllm_and_lorax(random_adapter: Make, tmp_path: Path, rank: int, limit: int) -> None:
    adapter = replace(random_adapter(1, rank=rank), name="team/mix", base_model="org/base model")
    report = save_adapter(adapter, tmp_path / "out", profile="vllm")
    assert f"--max-lora-rank {limit} --lora-modules mix=" in report.commands[0]
    assert report.commands[0].startswith("vllm serve 'org/base model' --enable-lora")
    card = (tmp_path / "out" / "README.md").read_text()
    assert all(line in card for line in report.commands) and len(report.commands) == 2


def test_what_servers_refuse_is_refused_with_the_way_out(random_adapter: Make, tmp_path: Path) -> None:
    plain = random_adapter(1)
    head = replace(plain, replaced={"lm_head.weight": Replacement(torch.ones(2, 2), "modules_to_save")})
    embedding = LoraAdapter("e", {"wte": Factors(torch.ones(2, 9), torch.ones(4, 2), 1.0, "embedding")})
    for adapter in (head, embedding, replace(plain, biases={"a": torch.ones(5)})):
        with pytest.raises(UnsupportedAdapter, match=r"(?s)linear layers only.*--fused"):
            save_adapter(adapter, tmp_path / "out", profile="vllm")
    with pytest.raises(UnsupportedAdapter, match=r"(?s)rank 600.*--max-rank 512"):
        save_adapter(random_adapter(1, rank=600), tmp_path / "out", profile="vllm")
    for profile in ("kohya", "diffusers"):
        with pytest.raises(UnsupportedAdapter, match="linear layers and convolutions"):
            save_adapter(head, tmp_path / "out", profile=profile)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_lora_can_only_be_fused(tmp_path: Path) -> None:
    only_head = LoraAdapter("h", {}, replaced={"lm_head.weight": Replacement(torch.ones(2, 2), "modules_to_save")})
    with pytest.raises(UnsupportedAdapter, match=r"(?s)changes no module by factors.*--fused"):
        save_adapter(only_head, tmp_path / "out")
