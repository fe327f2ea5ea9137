"""Exports: PEFT and transformers load them and compute the same as what is in the registry."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compose.errors import UnsupportedAdapter
from hub.actions.compose import Part, compose
from hub.actions.export import export
from hub.actions.publish import publish
from hub.actions.pull import pull
from hub.address import parse_address as at
from hub.errors import UnknownBase, UsageError, WouldOverwrite
from hub.home import Home

Write = Callable[..., Path]


@pytest.fixture
def mixed(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    """team/mix out of two adapters of one base."""
    for seed, name in enumerate("ab", start=1):
        publish(home, write_lora(name, seed=seed), at(f"team/{name}"), base=str(tiny_t5))
    compose(home, [Part(at("team/a"), 0.6), Part(at("team/b"), -0.3)], at("team/mix"))


def base(folder: Path) -> Any:
    from transformers import T5ForConditionalGeneration

    return T5ForConditionalGeneration.from_pretrained(folder).eval()


def with_peft(base_folder: Path, adapter: Path) -> Any:
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT 0.21 asks transformers 5 for an old name
        return PeftModel.from_pretrained(base(base_folder), adapter).eval()


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(3, 21).reshape(2, 9)
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, decoder_input_ids=ids).logits
    return found


@pytest.mark.usefixtures("mixed")
def test_peft_loads_the_export_and_computes_what_the_mix_is(home: Home, tiny_t5: Path, tmp_path: Path) -> None:
    done = export(home, at("team/mix"), tmp_path / "out")
    assert done.max_change == 0 and done.commit_id
    expected = logits(with_peft(tiny_t5, pull(home, at("team/mix"), tmp_path / "pulled").directory))
    found = logits(with_peft(tiny_t5, done.directory))
    assert torch.equal(found, expected)
    assert not torch.allclose(found, logits(base(tiny_t5)), atol=1e-3)
    assert {p.name for p in done.directory.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "README.md", "mixhub_recipe.json"
    }  # fmt: skip


@pytest.mark.parametrize(
    "config", [{"use_rslora": True, "lora_alpha": 3}, {"lora_alpha": 5}, {"alpha_pattern": {"SelfAttention.q": 7}}]
)
def test_a_published_adapter_is_rewritten_as_plain_lora_that_computes_the_same(
    home: Home, write_lora: Write, tiny_t5: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    folder = write_lora("a", **config)
    publish(home, folder, at("team/a"))
    out = export(home, at("team/a"), tmp_path / "out").directory
    written = json.loads((out / "adapter_config.json").read_text())
    assert written["lora_alpha"] == written["r"] and not written["use_rslora"] and not written["alpha_pattern"]
    assert torch.allclose(logits(with_peft(tiny_t5, out)), logits(with_peft(tiny_t5, folder)), atol=1e-5)


@pytest.mark.usefixtures("mixed")
def test_a_fused_export_is_what_peft_merges(home: Home, tiny_t5: Path, tmp_path: Path) -> None:
    out = export(home, at("team/mix"), tmp_path / "fused", fused=True).directory
    merged = with_peft(tiny_t5, pull(home, at("team/mix"), tmp_path / "pulled").directory).merge_and_unload()
    fused = base(out)
    for name, expected in merged.state_dict().items():
        assert torch.allclose(fused.state_dict()[name], expected, atol=1e-6), name
    assert torch.allclose(logits(fused), logits(merged), atol=1e-5)
    assert not torch.allclose(logits(fused), logits(base(tiny_t5)), atol=1e-3)


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize("fused", [False, True])
def test_nothing_is_overwritten_without_force_and_strangers_files_stay(home: Home, tmp_path: Path, fused: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(WouldOverwrite, match="out") as caught:
        export(home, at("team/mix"), out, fused=fused)
    assert "--force" in caught.value.remedy
    assert [p.name for p in out.iterdir()] == ["mine.txt"]
    export(home, at("team/mix"), out, fused=fused, force=True)
    export(home, at("team/a"), out, fused=fused, force=True)
    assert (out / "mine.txt").read_text() == "keep"
    assert (out / ("config.json" if fused else "adapter_config.json")).is_file()


@pytest.mark.usefixtures("mixed")
def test_the_dtype_is_the_one_asked_for_and_the_change_is_told(home: Home, tmp_path: Path) -> None:
    done = export(home, at("team/a"), tmp_path / "half", dtype="bfloat16")
    assert 0 < done.max_change < 0.01
    tensors = load_file(done.directory / "adapter_model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16}


@pytest.mark.usefixtures("mixed")
def test_an_export_in_another_dtype_does_not_carry_a_recipe_of_other_bytes(home: Home, tmp_path: Path) -> None:
    done = export(home, at("team/mix"), tmp_path / "half", dtype="bfloat16")
    assert not (done.directory / "mixhub_recipe.json").exists()


def test_fusing_needs_a_base_and_says_how_to_give_one(
    home: Home, write_lora: Write, tiny_t5: Path, other_base: Callable[..., Path], tmp_path: Path
) -> None:
    publish(home, write_lora("a"), at("team/a"))
    with pytest.raises(UnknownBase, match="team/a") as caught:
        export(home, at("team/a"), tmp_path / "out", fused=True)
    assert "--base" in caught.value.remedy and not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="--max-rank and --dtype are for adapters"):
        export(home, at("team/a"), tmp_path / "out", fused=True, max_rank=2, base=str(tiny_t5))
    export(home, at("team/a"), tmp_path / "out", fused=True, base=str(tiny_t5))
    publish(home, write_lora("b", seed=2), at("team/b"), base=str(tiny_t5))
    with pytest.raises(UnknownBase, match="another"):
        export(home, at("team/b"), tmp_path / "x", fused=True, base=str(other_base(tmp_path / "retrained", seed=9)))


def test_a_base_whose_folder_now_holds_another_model_is_not_fused_into(
    home: Home, write_lora: Write, other_base: Callable[..., Path], tmp_path: Path
) -> None:
    folder = other_base(tmp_path / "base", seed=1)
    publish(home, write_lora("a"), at("team/a"), base=str(folder))
    other_base(folder, seed=2)
    with pytest.raises(UnknownBase):
        export(home, at("team/a"), tmp_path / "out", fused=True)
    assert not (tmp_path / "out").exists()


def test_an_adapter_that_cannot_be_mixed_cannot_be_exported_either(
    home: Home, write_lora: Write, tmp_path: Path
) -> None:
    publish(home, write_lora("a", kasa_config={"x": 1}), at("team/a"))
    with pytest.raises(UnsupportedAdapter, match="KaSA"):
        export(home, at("team/a"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("mixed")
def test_a_mix_that_lost_its_card_can_be_exported(home: Home, tmp_path: Path) -> None:
    folder = pull(home, at("team/mix"), tmp_path / "pulled").directory
    (folder / "README.md").unlink()
    publish(home, folder, at("team/bare"))
    assert (export(home, at("team/bare"), tmp_path / "out").directory / "README.md").is_file()
