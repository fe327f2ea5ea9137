"""A recipe survives its file unchanged, and a file that is no recipe is refused by the field that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import BadRecipe
from compose.recipe import Parent, Recipe, read_recipe, recipe_text, write_recipe

PARENT = {"address": "ns/a", "weight": 0.5, "weights_sha256": "0" * 64, "config_sha256": "1" * 64}
WHOLE = {"mixhub_recipe": 1, "parents": [PARENT], "method": "lorahub"}


@given(
    weights=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=3),
    text=st.text(st.characters(exclude_categories=["Cs"])),
    rank=st.none() | st.integers(1, 64),
)
def test_writing_and_reading_give_the_same_recipe(
    tmp_path_factory: pytest.TempPathFactory, weights: list[float], text: str, rank: int | None
) -> None:
    recipe = Recipe(
        tuple(Parent(text, weight, "0" * 64, "1" * 64, "c" * 40, "sub") for weight in weights),
        method="svd",
        params={"rank": rank},
        search={"seed": 3, "budget": 40, "note": text},
        versions={"torch": "2"},
        output_sha256="2" * 64,
    )
    path = tmp_path_factory.getbasetemp() / "recipe.json"
    write_recipe(recipe, path)
    assert read_recipe(path) == recipe
    assert path.read_bytes() == recipe_text(recipe).encode()


def test_the_least_recipe_is_read_with_defaults(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(WHOLE))
    assert read_recipe(tmp_path / "r.json") == Recipe((Parent("ns/a", 0.5, "0" * 64, "1" * 64),), "lorahub")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([], "is no recipe of format 1"),
        ({}, "is no recipe of format 1"),
        ({**WHOLE, "mixhub_recipe": 2}, "is no recipe of format 1"),
        ({**WHOLE, "parents": []}, "at least one"),
        ({**WHOLE, "parents": {}}, "must be a list"),
        ({**WHOLE, "parents": ["x"]}, "parent 1 is a str"),
        ({**WHOLE, "parents": [PARENT, {**PARENT, "weight": "1"}]}, "parent 2: weight is '1'"),
        ({**WHOLE, "parents": [{**PARENT, "weight": True}]}, "weight is True"),
        ({**WHOLE, "parents": [{**PARENT, "address": None}]}, "address is None"),
        ({**WHOLE, "parents": [{"address": "ns/a"}]}, "lacks the field 'weight'"),
        ({**WHOLE, "method": 3}, "method is 3"),
        ({**WHOLE, "params": []}, "params is"),
        ({**WHOLE, "surprise": 1}, "unknown field 'surprise'"),
        ({"mixhub_recipe": 1, "parents": [PARENT]}, "lacks the field 'method'"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, raw: Any, said: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps(raw))
    with pytest.raises(BadRecipe, match=said):
        read_recipe(tmp_path / "r.json")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"mixhub_recipe": 1, "parents": [{"weight": NaN}]}'])
def test_what_is_no_json_or_no_number_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(BadRecipe):
        read_recipe(tmp_path / "r.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"cannot read the recipe absent\.json"):
        read_recipe(tmp_path / "absent.json")
