"""Mixing adapters of the registry: the arithmetic, the recipe, the lineage, and what pinning means."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compose.adapter import LoraAdapter
from compose.errors import BadRecipe, IncompatibleAdapters
from compose.methods import METHODS
from compose.peft_files import read_adapter
from hub.actions import database
from hub.actions.compose import Composed, Part, compose, remake
from hub.actions.delete import delete
from hub.actions.publish import publish
from hub.actions.pull import pull
from hub.actions.show import show
from hub.address import parse_address as at
from hub.errors import UsageError
from hub.home import Home
from hub.settings import Settings
from storage.errors import NotFound, PinnedRevision

Write = Callable[..., Path]


@pytest.fixture
def pair(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    """Two adapters of one base."""
    for seed, name in enumerate("ab", start=1):
        publish(home, write_lora(name, seed=seed), at(f"team/{name}"), base=str(tiny_t5))


def mix(home: Home, into: str = "team/mix", /, **weights: float) -> Composed:
    return compose(home, [Part(at(f"team/{name}"), weight) for name, weight in weights.items()], at(into))


def loaded(home: Home, address: str, folder: Path) -> LoraAdapter:
    return read_adapter(pull(home, at(address), folder).directory)


def deltas(adapter: LoraAdapter) -> dict[str, torch.Tensor]:
    return {path: factors.delta() for path, factors in adapter.modules.items()}


def close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.allclose(left[p], right[p], atol=1e-6) for p in left)


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize("method", list(METHODS))
def test_one_adapter_with_weight_1_is_itself_under_every_method(home: Home, tmp_path: Path, method: str) -> None:
    params = {"della": {"epsilon": 0.0}, "breadcrumbs": {"outliers": 0.0}}.get(method, {})
    if any(param.name == "density" for param in METHODS[method].params):
        params |= {"density": 1.0}  # drop nothing
    done = compose(home, [Part(at("team/a"), 1.0)], at("team/mix"), method=method, params=params)
    assert done.published.version == "v1" and done.method == method
    assert close(deltas(loaded(home, "team/mix", tmp_path / "m")), deltas(read_adapter(tmp_path / "a")))


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize("method", ["exact", "svd"])
def test_methods_on_deltas_add_weighted_deltas(home: Home, tmp_path: Path, method: str) -> None:
    params = {"rank": 4} if method == "svd" else {}
    compose(home, [Part(at("team/a"), 0.6), Part(at("team/b"), -0.3)], at("team/mix"), method=method, params=params)
    a, b = deltas(read_adapter(tmp_path / "a")), deltas(read_adapter(tmp_path / "b"))
    expected = {path: 0.6 * a[path] - 0.3 * b[path] for path in a}
    assert close(deltas(loaded(home, "team/mix", tmp_path / "m")), expected)


@pytest.mark.usefixtures("pair")
def test_the_default_mixes_factors_and_does_not_see_a_common_sign(home: Home, tmp_path: Path) -> None:
    mix(home, "team/plus", a=0.6, b=-0.3)
    mix(home, "team/minus", a=-0.6, b=0.3)
    plus, minus = (deltas(loaded(home, f"team/{sign}", tmp_path / sign)) for sign in ("plus", "minus"))
    assert close(plus, minus)
    a, b = read_adapter(tmp_path / "a").modules, read_adapter(tmp_path / "b").modules
    # lora_alpha = 2 r, so s = 2: balanced factors carry sqrt(2) each
    expected = {p: 2 * (0.6 * a[p].B - 0.3 * b[p].B) @ (0.6 * a[p].A - 0.3 * b[p].A) for p in a}
    assert close(plus, expected)


@pytest.mark.usefixtures("pair")
def test_options_of_a_method_and_the_dtype_arrive(home: Home, tmp_path: Path) -> None:
    parts = [Part(at("team/a"), 0.5), Part(at("team/b"), 0.5)]
    done = compose(home, parts, at("team/low"), method="svd", params={"rank": 1}, dtype="bfloat16")
    assert done.retained_energy is not None and 0 < done.retained_energy < 1
    low = loaded(home, "team/low", tmp_path / "low")
    assert low.max_rank == 1 and low.dtype == torch.bfloat16
    assert show(home, at("team/low")).facts["dtype"] == "bfloat16"
    compat = compose(home, parts, at("team/compat"), params={"fold": "lorahub-compat"})
    pulled = pull(home, compat.published.address, tmp_path / "c").directory
    recipe = json.loads((pulled / "mixhub_recipe.json").read_text())
    assert recipe["params"] == {"fold": "lorahub-compat", "align": "none"} and recipe["method"] == "lorahub"


@pytest.mark.usefixtures("pair")
def test_a_mix_is_bound_to_the_base_of_its_parents_and_knows_them(home: Home) -> None:
    mix(home, a=0.6, b=-0.3)
    mix(home, "team/second", mix=1.0, b=0.5)
    shown = show(home, at("team/mix"))
    assert [(p.address, p.weight) for p in shown.parents] == [("team/a", 0.6), ("team/b", -0.3)]
    assert shown.method == "lorahub" and shown.facts["base"] == show(home, at("team/a")).facts["base"] != "unbound"
    assert str(shown.facts["fits the base"]).startswith("2 of 2")
    second = show(home, at("team/second@v1"))
    assert [p.address for p in second.parents] == ["team/mix", "team/b"]
    assert [p.address for p in second.ancestors] == ["team/a"]
    assert [c.address for c in shown.children] == ["team/second"]
    assert {c.address for c in show(home, at("team/b")).children} == {"team/mix", "team/second"}


@pytest.mark.usefixtures("pair")
def test_the_same_mix_again_makes_no_new_version(home: Home) -> None:
    assert mix(home, a=0.6, b=-0.3).published.version == "v1"
    again = mix(home, a=0.6, b=-0.3)
    assert (again.published.created, again.published.version, again.verb) == (False, "v1", "unchanged")
    assert mix(home, a=0.5, b=-0.3).published.version == "v2"


@pytest.mark.usefixtures("pair")
def test_a_recipe_remakes_the_mix_bit_for_bit_after_its_parents_moved_on(
    home: Home, write_lora: Write, tiny_t5: Path, tmp_path: Path
) -> None:
    mix(home, a=0.6, b=-0.3)
    original = pull(home, at("team/mix@v1"), tmp_path / "mix").directory
    publish(home, write_lora("a2", seed=7), at("team/a"), base=str(tiny_t5))
    for recipe in (original, original / "mixhub_recipe.json"):
        done = remake(home, recipe, at("team/again"))
        assert done.published.version == "v1"
    again = pull(home, at("team/again"), tmp_path / "again").directory
    for name in ("adapter_model.safetensors", "adapter_config.json", "mixhub_recipe.json"):
        assert (again / name).read_bytes() == (original / name).read_bytes()
    assert [p.address for p in show(home, at("team/again")).parents] == ["team/a", "team/b"]


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda r: r["parents"][0].update(weights_sha256="0" * 64), "team/a.*not the recorded one"),
        (lambda r: r["parents"][0].update(config_sha256="0" * 64), "team/a.*not the recorded one"),
        (lambda r: r["parents"][1].update(weight=0.31), "other bytes"),
        (lambda r: r.update(method="exact", params={}), "other bytes"),
        (lambda r: r.update(output_sha256="0" * 64), "other bytes"),
        (lambda r: r.update(parents=[]), "at least one"),
        (lambda r: r["parents"][0].update(weight="much"), "weight"),
        (lambda r: r.update(surprise=1), "surprise"),
    ],
)
def test_a_recipe_that_was_altered_is_refused_and_nothing_is_published(
    home: Home, tmp_path: Path, spoil: Callable[[dict[str, Any]], None], named: str
) -> None:
    mix(home, a=0.6, b=-0.3)
    path = pull(home, at("team/mix"), tmp_path / "mix").directory / "mixhub_recipe.json"
    recipe = json.loads(path.read_text())
    spoil(recipe)
    path.write_text(json.dumps(recipe))
    with pytest.raises(BadRecipe, match=named):
        remake(home, path, at("team/again"))
    with pytest.raises(NotFound):
        show(home, at("team/again"))


@pytest.mark.usefixtures("pair")
def test_a_parent_version_cannot_go_and_a_deleted_parent_repo_leaves_the_mix_whole(home: Home, tmp_path: Path) -> None:
    mix(home, a=0.6, b=-0.3)
    before = deltas(loaded(home, "team/mix", tmp_path / "before"))
    with pytest.raises(PinnedRevision, match=r"team/mix"):
        delete(home, at("team/a@v1"))
    delete(home, at("team/a"))
    with pytest.raises(NotFound):
        show(home, at("team/a"))
    settings = Settings(home=home.directory, database_url="", blobs_url="")
    assert database.check(settings, deep=True).problems == ()
    database.collect_garbage(settings, hours=0)
    report = database.check(settings, deep=True)
    assert (report.problems, report.notes) == ((), ())
    assert close(deltas(loaded(home, "team/mix", tmp_path / "after")), before)
    assert [p.address for p in show(home, at("team/mix")).parents] == ["team/a", "team/b"]
    compose(home, [Part(at("team/mix"), 0.5), Part(at("team/b"), 0.5)], at("team/next"))


def test_adapters_of_different_bases_are_refused_unless_that_is_allowed_and_then_said(
    home: Home, write_lora: Write, tiny_t5: Path, other_base: Callable[..., Path], tmp_path: Path
) -> None:
    retrained = other_base(tmp_path / "retrained", seed=9)
    publish(home, write_lora("a", seed=1), at("team/a"), base=str(tiny_t5))
    publish(home, write_lora("b", seed=2, base_model_name_or_path="x/y"), at("team/b"), base=str(retrained))
    parts = [Part(at("team/a"), 1), Part(at("team/b"), 1)]
    with pytest.raises(IncompatibleAdapters, match=r"team/b: base model"):
        compose(home, parts, at("team/mix"))
    done = compose(home, parts, at("team/mix"), allow_unbound=True)
    assert any("team/b" in note and "base model" in note for note in done.notes)
    assert show(home, at("team/mix")).facts["base"] == "unbound"


def test_an_unknown_identity_is_refused_unless_it_is_allowed_and_then_said(
    home: Home, write_lora: Write, tiny_t5: Path
) -> None:
    publish(home, write_lora("a", seed=1, base_model_name_or_path="x/y"), at("team/a"), base=str(tiny_t5))
    publish(home, write_lora("b", seed=2), at("team/b"))
    parts = [Part(at("team/a"), 0.5), Part(at("team/b"), 0.5)]
    with pytest.raises(IncompatibleAdapters, match=r"team/b: base model is unknown"):
        compose(home, parts, at("team/mix"))
    done = compose(home, parts, at("team/mix"), allow_unbound=True)
    assert any("team/b" in note and "unknown" in note for note in done.notes)
    assert show(home, at("team/mix")).facts["base"] == "unbound"


def test_every_difference_is_listed_at_once(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    publish(home, write_lora("a", seed=1), at("team/a"), base=str(tiny_t5))
    site = "encoder.block.0.layer.0.SelfAttention.q"
    wide = {
        f"base_model.model.{site}.lora_A.weight": torch.ones(2, 24),
        f"base_model.model.{site}.lora_B.weight": torch.ones(24, 2),
    }
    publish(home, write_lora("b", sites=[], tensors=wide, base_model_name_or_path="x/y"), at("team/b"))
    publish(home, write_lora("c", kasa_config={"x": 1}, base_model_name_or_path="x/y"), at("team/c"))
    with pytest.raises(IncompatibleAdapters) as caught:
        compose(home, [Part(at(f"team/{name}"), 1.0) for name in "abc"], at("team/mix"))
    for said in ("team/b: the shape of", "team/b: base model", "team/c: family"):
        assert said in caught.value.message


def test_adapters_in_folders_are_mixed_by_their_addresses(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    for seed, name in enumerate(("left", "right")):
        publish(home, write_lora(name, seed=seed), at(f"team/many/{name}"), base=str(tiny_t5))
    done = compose(home, [Part(at("team/many/left@v1"), 0.5), Part(at("team/many/right"), 0.5)], at("team/out/mixed"))
    assert str(done.published.address) == "team/out/mixed@v1"
    assert [p.address for p in show(home, at("team/out/mixed")).parents] == ["team/many/left", "team/many/right"]
    with pytest.raises(NotFound, match=r"its adapters are in: left, right"):
        compose(home, [Part(at("team/many"), 1.0)], at("team/mix"))


@pytest.mark.usefixtures("pair")
def test_a_mix_that_cannot_be_published_is_refused_before_any_arithmetic(home: Home) -> None:
    with pytest.raises(UsageError, match="names a revision"):
        mix(home, "team/mix@v3", a=1.0)
    with pytest.raises(UsageError, match="--as"):
        remake(home, Path("unused"), None)


def test_different_licences_of_the_parts_are_named(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    for i, licence in enumerate(("mit", "cc-by-nc-4.0", "mit")):
        card = f"---\nlicense: {licence}\n---\n"
        publish(home, write_lora(f"l{i}", seed=i, card=card), at(f"team/l{i}"), base=str(tiny_t5))
    parts = [Part(at(f"team/l{i}"), 0.5) for i in range(3)]
    assert not any("licence" in note for note in compose(home, [parts[0], parts[2]], at("team/same")).notes)
    (note,) = (note for note in compose(home, parts, at("team/mixed")).notes if "licence" in note)
    assert "cc-by-nc-4.0: team/l1" in note and "mit: team/l0, team/l2" in note
