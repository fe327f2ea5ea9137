"""Verifying looks at a mix and says what is not as recorded: which key, and by how much."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from compose.errors import BadRecipe, MalformedAdapter
from compose.export import save_adapter
from compose.merge import merge
from compose.peft_files import read_adapter
from compose.recipe import Recipe, parent_of, read_recipe
from compose.verify import verify

KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture
def parents(peft_adapter: Callable[..., Path]) -> list[Path]:
    return [peft_adapter("llama", seed=1, r=2), peft_adapter("llama", seed=2, r=3)]


@pytest.fixture
def mixed(parents: list[Path], tmp_path: Path) -> Path:
    folder = tmp_path / "mixed"
    weights = [0.4, -0.7]
    entries = tuple(parent_of(p, address=f"ns/{p.name[:7]}", weight=w) for p, w in zip(parents, weights, strict=True))
    merged = merge([read_adapter(p) for p in parents], weights, method="exact")
    save_adapter(merged.adapter, folder, recipe=Recipe(entries, "exact", merged.report.params))
    return folder


def recipe_of(folder: Path) -> Recipe:
    return read_recipe(folder / "mixhub_recipe.json")


def contents(*folders: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for folder in folders for file in folder.rglob("*") if file.is_file()}


def tampered(mixed: Path, *, by: float) -> None:
    """One value of the published tensors moved."""
    tensors = load_file(mixed / "adapter_model.safetensors")
    tensors[KEY][0, 0] += by
    save_file(tensors, mixed / "adapter_model.safetensors", metadata={"format": "pt"})


def test_an_untouched_mix_is_reproduced_bit_for_bit_and_nothing_is_written(mixed: Path, parents: list[Path]) -> None:
    before = contents(mixed, *parents)
    found = verify(recipe_of(mixed), parents, mixed)
    assert found.reproduced and found.identical and found.largest == 0.0 and found.compared > 0
    assert found.recorded_sha256 == found.found_sha256 == found.remade_sha256
    assert contents(mixed, *parents) == before


def test_a_changed_tensor_is_named_with_the_size_of_the_difference(mixed: Path, parents: list[Path]) -> None:
    tampered(mixed, by=0.25)
    found = verify(recipe_of(mixed), parents, mixed)
    assert not found.reproduced and not found.identical
    [difference] = found.tensors
    assert difference.key == KEY and difference.largest == pytest.approx(0.25)
    assert any("is not the recorded file" in finding for finding in found.findings)
    assert any(KEY in finding and "1 of" in finding for finding in found.findings)


def test_a_tolerance_lets_small_differences_of_tensors_pass_but_not_larger_ones(
    mixed: Path, parents: list[Path]
) -> None:
    tampered(mixed, by=0.25)
    open_recipe = replace(recipe_of(mixed), output_sha256=None)
    near = verify(open_recipe, parents, mixed, tolerance=0.3)
    assert near.reproduced and not near.identical and near.largest == pytest.approx(0.25)
    assert not verify(open_recipe, parents, mixed, tolerance=0.2).reproduced


def test_a_changed_weight_in_the_recipe_shows_in_the_tensors(mixed: Path, parents: list[Path]) -> None:
    recipe = recipe_of(mixed)
    other = replace(recipe, parents=(replace(recipe.parents[0], weight=0.5), recipe.parents[1]))
    found = verify(other, parents, mixed)
    assert not found.reproduced and found.tensors and found.found_sha256 != found.remade_sha256
    assert any(finding.startswith("tensor base_model") for finding in found.findings)


def test_a_changed_config_a_missing_and_an_added_tensor_are_named(mixed: Path, parents: list[Path]) -> None:
    config = json.loads((mixed / "adapter_config.json").read_text())
    (mixed / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 99}))
    tensors = load_file(mixed / "adapter_model.safetensors")
    tensors["extra"] = tensors.pop(KEY).to(torch.float16)
    save_file(tensors, mixed / "adapter_model.safetensors")
    found = verify(recipe_of(mixed), parents, mixed)
    assert any("lora_alpha is 99" in finding for finding in found.findings)
    assert {one.key: one.largest for one in found.tensors} == {"extra": None, KEY: None}


def test_other_parents_are_named_and_nothing_is_remade_from_them(mixed: Path, parents: list[Path]) -> None:
    found = verify(recipe_of(mixed), parents[::-1], mixed)
    assert found.remade_sha256 is None and found.largest is None and found.tensors == ()
    assert any("ns/llama-1: adapter_model.safetensors is not the recorded one" in finding for finding in found.findings)
    with pytest.raises(BadRecipe, match="2 parents, 1 folders"):
        verify(recipe_of(mixed), parents[:1], mixed)


def test_other_library_versions_are_told_and_unreadable_weights_are_one_clear_error(
    mixed: Path, parents: list[Path]
) -> None:
    older = replace(recipe_of(mixed), versions={"torch": "1.0", "nothing-of-this-name": "3"})
    notes = verify(older, parents, mixed).notes
    assert len(notes) == 2 and "made with torch 1.0" in notes[1] and "not installed" in notes[0]
    (mixed / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(MalformedAdapter, match=r"adapter_model\.safetensors cannot be read"):
        verify(older, parents, mixed)
