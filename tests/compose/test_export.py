"""Every export loads in PEFT and gives the logits of the adapter in memory; and nothing is half written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compose.adapter import Factors, LoraAdapter
from compose.description import describe
from compose.errors import BadMethod, MalformedAdapter, OutputExists
from compose.export import save_adapter
from compose.merge import merge
from compose.methods import METHODS
from compose.peft_files import read_adapter
from compose.recipe import Parent, Recipe

Make = Callable[..., LoraAdapter]
LOGITS = Callable[[nn.Module], Tensor]


def add(model: nn.Module, adapter: LoraAdapter) -> nn.Module:
    """The truth: the deltas added to the weights by hand."""
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for path, factors in adapter.modules.items():
            weight = weights[f"{path}.weight"]
            weight += factors.delta().T if type(model.get_submodule(path)).__name__ == "Conv1D" else factors.delta()
    return model


@pytest.mark.parametrize("profile", ["peft-uniform", "peft-pattern"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["t5", "llama", "gpt2"])
def test_peft_loads_every_export_with_equal_logits(
    peft_adapter: Callable[..., Path],
    tiny_model: Callable[[str], nn.Module],
    logits: LOGITS,
    tmp_path: Path,
    kind: str,
    method: str,
    profile: str,
) -> None:
    """Parents with patterns, rsLoRA, other ranks and modules of some layers only; PEFT must change exactly these."""
    from peft import PeftModel

    first = {"t5": "q", "llama": "q_proj", "gpt2": "c_attn"}[kind]
    second = {"t5": r"decoder\.block\.1\..*\.v", "llama": r".*layers\.1\.mlp\.up_proj", "gpt2": r".*h\.1\.attn\.c_proj"}
    folders = [
        peft_adapter(kind, seed=1, r=2, lora_alpha=4, target_modules=[first], layers_to_transform=[0])
        if kind != "t5"
        else peft_adapter(kind, seed=1, r=2, target_modules=r"encoder\..*layer\.0\.SelfAttention\.q"),
        peft_adapter(kind, seed=2, r=3, lora_alpha=5, use_rslora=True, target_modules=second[kind]),
    ]
    merged = merge(
        [read_adapter(folder) for folder in folders], [0.8, 0.5 if method == "slerp" else -0.5], method=method
    ).adapter
    report = save_adapter(merged, tmp_path / "out", profile=profile)
    expected = logits(add(tiny_model(kind), merged))
    loaded = PeftModel.from_pretrained(tiny_model(kind), tmp_path / "out")
    touched = {n.removeprefix("base_model.model.") for n, m in loaded.named_modules() if hasattr(m, "lora_A")}
    assert touched == set(merged.modules)
    torch.testing.assert_close(logits(loaded), expected, rtol=1e-4, atol=1e-5)
    assert (logits(tiny_model(kind)) - expected).abs().max() > 1e-3
    assert report.max_change == 0.0


def test_peft_finds_exactly_the_modules_of_a_long_list(
    peft_adapter: Callable[..., Path], tiny_model: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    """From 20 targets on PEFT shortens the list to suffixes; one q of many is left out here."""
    from peft import PeftModel

    wanted = r"(?!decoder\.block\.0\.layer\.0\.SelfAttention\.q).*\.(q|k|v|o)"
    adapter = read_adapter(peft_adapter("t5", r=1, target_modules=wanted))
    assert len(adapter.modules) == 23
    save_adapter(adapter, tmp_path / "out")
    loaded = PeftModel.from_pretrained(tiny_model("t5"), tmp_path / "out")
    touched = {n.removeprefix("base_model.model.") for n, m in loaded.named_modules() if hasattr(m, "lora_A")}
    assert touched == set(adapter.modules)


@pytest.mark.parametrize("profile", ["peft-uniform", "peft-pattern"])
def test_reading_an_export_gives_the_same_deltas_at_scaling_one(
    random_adapter: Make, tmp_path: Path, profile: str
) -> None:
    made = random_adapter(1, scaling=2.5)
    wide = random_adapter(2, rank=4, paths=("c", "d.e-f"), scaling=-0.5)
    made = replace(made, modules={**made.modules, **wide.modules})
    save_adapter(made, tmp_path / "out", profile=profile)
    back = read_adapter(tmp_path / "out")
    assert list(back.modules) == ["a", "b", "c", "d.e-f"]
    assert {f.scaling for f in back.modules.values()} == {1.0}
    assert [f.rank for f in back.modules.values()] == ([4] * 4 if profile == "peft-uniform" else [2, 2, 4, 4])
    for path, factors in back.modules.items():
        torch.testing.assert_close(factors.delta().double(), made.modules[path].delta(), rtol=1e-5, atol=1e-5)


def test_the_config_is_plain_lora(random_adapter: Make, tmp_path: Path) -> None:
    save_adapter(random_adapter(1, scaling=3.0), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["lora_alpha"], config["r"], config["rank_pattern"], config["alpha_pattern"]) == (2, 2, {}, {})
    assert config["inference_mode"] is config["init_lora_weights"] is True
    assert config["use_rslora"] is False
    assert config["target_modules"] == ["a", "b"]


def test_the_same_adapter_gives_the_same_bytes(random_adapter: Make, tmp_path: Path) -> None:
    adapter = random_adapter(1)
    turned = replace(adapter, modules=dict(reversed(adapter.modules.items())))
    recipe = Recipe((Parent("ns/a", 0.5, "0" * 64, "1" * 64),), "exact")
    first = save_adapter(adapter, tmp_path / "one", recipe=recipe)
    second = save_adapter(turned, tmp_path / "two", recipe=recipe)
    assert first.sha256 == second.sha256
    assert sorted(first.sha256) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "mixhub_recipe.json",
    ]
    for name in first.sha256:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_largest_change_by_rounding_is_reported(random_adapter: Make, tmp_path: Path, dtype: str) -> None:
    adapter = random_adapter(1)
    single = {path: Factors(f.A.float(), f.B.float()) for path, f in adapter.modules.items()}
    report = save_adapter(replace(adapter, modules=single), tmp_path / "out", dtype=dtype)
    back = read_adapter(tmp_path / "out")
    changes = [(getattr(f, x) - getattr(single[p], x)).abs().max() for p, f in back.modules.items() for x in "AB"]
    assert report.max_change == max(changes).item()
    assert (report.max_change > 0) == (dtype != "float32")
    assert describe(tmp_path / "out").dtypes == (dtype,)


def test_the_dtype_defaults_to_that_of_the_files(random_adapter: Make, tmp_path: Path) -> None:
    for dtype, written in [(torch.bfloat16, "bfloat16"), (torch.float64, "float32"), (torch.float32, "float32")]:
        assert save_adapter(replace(random_adapter(1), dtype=dtype), tmp_path / str(dtype)).dtype == written


def test_values_too_large_for_the_dtype_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    adapter = LoraAdapter("big", {"a": Factors(torch.full((1, 2), 1e6), torch.ones(3, 1))})
    with pytest.raises(MalformedAdapter, match=r"big: .*lora_A\.weight holds values that torch\.float16 cannot hold"):
        save_adapter(adapter, tmp_path / "out", dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_unknown_options_are_refused(random_adapter: Make, tmp_path: Path) -> None:
    with pytest.raises(BadMethod, match="dtype is 'int8'"):
        save_adapter(random_adapter(1), tmp_path / "out", dtype="int8")
    with pytest.raises(BadMethod, match="profile is 'floppy'"):
        save_adapter(random_adapter(1), tmp_path / "out", profile="floppy")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_not_touched_without_leave(random_adapter: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(OutputExists, match=r"(?s)is not empty.*--force"):
        save_adapter(random_adapter(1), tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]
    (tmp_path / "out" / "mixhub_recipe.json").write_text("of another adapter")
    save_adapter(random_adapter(1), tmp_path / "out", overwrite=True)
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["README.md", "adapter_config.json", "adapter_model.safetensors", "mine.txt"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_file_in_the_way_is_refused(random_adapter: Make, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputExists, match="is not a folder"):
        save_adapter(random_adapter(1), tmp_path / "out", overwrite=True)


def test_a_full_disk_leaves_nothing(random_adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        save_adapter(random_adapter(1), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_parents_are_made(random_adapter: Make, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save_adapter(random_adapter(1), tmp_path / "empty")
    save_adapter(random_adapter(1), tmp_path / "new" / "deep")
    assert describe(tmp_path / "empty").modules == describe(tmp_path / "new" / "deep").modules
