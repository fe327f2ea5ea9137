"""From the recipe file and the parents' folders alone the same bytes come out; anything changed is noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from compose.errors import BadMethod, BadRecipe
from compose.export import save_adapter
from compose.merge import merge
from compose.methods import METHODS
from compose.peft_files import read_adapter
from compose.recipe import Recipe, parent_of, read_recipe
from compose.remake import remake

WEIGHTS = [0.1 + 0.2, -1 / 3]


@pytest.fixture
def parents(peft_adapter: Callable[..., Path]) -> list[Path]:
    return [peft_adapter("llama", seed=1, r=2), peft_adapter("llama", seed=2, r=3, use_rslora=True)]


def mix(parents: list[Path], target: Path, method: str, dtype: str = "float32") -> Recipe:
    weights = [abs(weight) for weight in WEIGHTS] if method == "slerp" else WEIGHTS
    entries = tuple(
        parent_of(folder, address=f"ns/{i}", weight=weight, commit="c" * 40)
        for i, (folder, weight) in enumerate(zip(parents, weights, strict=True))
    )
    merged = merge([read_adapter(folder) for folder in parents], weights, method=method)
    recipe = Recipe(entries, method, merged.report.params, profile="peft-pattern")
    save_adapter(merged.adapter, target, dtype=dtype, profile="peft-pattern", recipe=recipe)
    return read_recipe(target / "mixhub_recipe.json")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_a_mix_is_remade_bit_for_bit(parents: list[Path], tmp_path: Path, method: str, dtype: str) -> None:
    recipe = mix(parents, tmp_path / "first", method, dtype)
    assert recipe.versions and recipe.output_sha256
    report = remake(recipe, parents, tmp_path / "second")
    assert report.sha256["adapter_model.safetensors"] == recipe.output_sha256
    for name in ("adapter_model.safetensors", "adapter_config.json", "mixhub_recipe.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_changed_parent_is_noticed_before_anything_is_written(parents: list[Path], tmp_path: Path) -> None:
    recipe = mix(parents, tmp_path / "first", "exact")
    with pytest.raises(BadRecipe, match=r"ns/0: adapter_model\.safetensors is not the recorded one"):
        remake(recipe, parents[::-1], tmp_path / "second")
    (parents[1] / "adapter_config.json").write_text("{}")
    with pytest.raises(BadRecipe, match=r"(?s)ns/1: adapter_config\.json is not .*revision c"):
        remake(recipe, parents, tmp_path / "second")
    (parents[0] / "adapter_model.safetensors").unlink()
    with pytest.raises(BadRecipe, match="sha256 missing"):
        remake(recipe, parents, tmp_path / "second")
    with pytest.raises(BadRecipe, match="2 parents, 1 folders"):
        remake(recipe, parents[:1], tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_other_bytes_than_promised_are_refused_and_not_kept(parents: list[Path], tmp_path: Path) -> None:
    recipe = mix(parents, tmp_path / "first", "exact")
    other = replace(recipe, parents=(replace(recipe.parents[0], weight=0.7), recipe.parents[1]))
    with pytest.raises(BadRecipe, match=r"(?s)remaking gave other bytes.*torch 2"):
        remake(other, parents, tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_options_that_the_method_does_not_have_are_refused(parents: list[Path], tmp_path: Path) -> None:
    recipe = mix(parents, tmp_path / "first", "exact")
    with pytest.raises(BadMethod, match="no option 'name'"):
        remake(replace(recipe, params={"name": "x"}), parents, tmp_path / "second")
