"""mixhub_recipe.json: everything needed to remake a merged adapter bit for bit, and to prove that it was.

A recipe pins each parent by the sha256 of its two files, so that it holds wherever the parents are found. Needs no
torch; remaking itself is remake.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any

from .description import CONFIG_FILE, WEIGHTS_FILE
from .errors import BadRecipe
from .layer_weights import Weight, main_weight

RECIPE_FILE = "mixhub_recipe.json"
FORMAT = 1


@dataclass(frozen=True)
class Parent:
    """One merged adapter: where it was found (`address`, `commit`, `folder` in the repo), what it was, its weight."""

    address: str
    weight: float
    weights_sha256: str
    config_sha256: str
    commit: str | None = None
    folder: str = ""
    layers: Mapping[str, float] | None = None
    """Weights by globs over modules, in order; `weight` is then that of the last one, `*` (layer_weights.py)."""
    initial_sha256: str | None = None
    """Of the weights before training, where PiSSA or OLoRA was read with them."""


@dataclass(frozen=True)
class Recipe:
    """`dtype`, `profile`, `versions` and `output_sha256` (of the weights file) are filled in when saving."""

    parents: tuple[Parent, ...]
    method: str
    params: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    dtype: str | None = None
    profile: str = "peft-uniform"
    max_rank: int | None = None
    policies: Mapping[str, str] = field(default_factory=dict)
    """Kind of replaced tensor -> policy (replacements.py); adapters are named by their number, from 1."""
    base: str | None = None
    """The fingerprint of the base model, where its tensors were used."""
    search: Mapping[str, Any] | None = None
    """How the weights were found (optimizer, seed, budget, digest of the examples ...); `None` if given by hand."""
    versions: Mapping[str, str] = field(default_factory=dict)
    output_sha256: str | None = None


def parent_of(
    directory: Path,
    *,
    address: str,
    weight: Weight,
    commit: str | None = None,
    folder: str = "",
    initial: Path | None = None,
) -> Parent:
    """The entry of the adapter in `directory`, with the digests of its files."""
    return Parent(
        address,
        main_weight(weight),
        file_sha256(directory / WEIGHTS_FILE),
        file_sha256(directory / CONFIG_FILE),
        commit,
        folder,
        weight if isinstance(weight, Mapping) else None,
        file_sha256(initial / WEIGHTS_FILE) if initial else None,
    )


def weights_of(recipe: Recipe) -> list[Weight]:
    """The weights as merge() takes them."""
    return [parent.weight if parent.layers is None else parent.layers for parent in recipe.parents]


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recipe_text(recipe: Recipe) -> str:
    """The file's text; the same recipe gives the same bytes."""
    data = {"mixhub_recipe": FORMAT, **asdict(recipe)}
    # the order of globs counts, so only the names of fields are sorted
    data["parents"] = [dict(sorted(parent.items())) for parent in data["parents"]]
    return json.dumps(dict(sorted(data.items())), indent=2, allow_nan=False) + "\n"


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write `recipe` to `path`."""
    path.write_text(recipe_text(recipe), encoding="utf-8", newline="\n")


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe file; `BadRecipe` names the field that is wrong."""
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise BadRecipe(f"cannot read the recipe {path.name}: {error.strerror}", remedy="check the path") from error
    except (ValueError, RecursionError) as error:
        raise BadRecipe(f"{path.name} is not JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("mixhub_recipe") != FORMAT:
        raise BadRecipe(f"{path.name} is no recipe of format {FORMAT}", remedy=f"give the {RECIPE_FILE} of a mix")
    raw = {key: value for key, value in raw.items() if key != "mixhub_recipe"}
    parents = raw.pop("parents", None)
    if not isinstance(parents, list) or not parents:
        raise BadRecipe(f"{path.name}: parents must be a list with at least one entry")
    entries = tuple(
        Parent(**_checked(Parent, parent, f"{path.name}: parent {number}")) for number, parent in enumerate(parents, 1)
    )
    recipe = Recipe(**_checked(Recipe, {**raw, "parents": entries}, path.name))
    for parent in entries:
        if not isfinite(parent.weight):
            raise BadRecipe(f"{path.name}: the weight of {parent.address} is {parent.weight}")
    return recipe


# what a field may hold, by its annotation above
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "float": (float, int),
    "tuple[Parent, ...]": (tuple,),
    "Mapping[str, str]": (dict,),
    "Mapping[str, str | int | float | bool | None]": (dict,),
    "Mapping[str, Any] | None": (dict, type(None)),
    "Mapping[str, float] | None": (dict, type(None)),
    "int | None": (int, type(None)),
}


def _checked(kind: type[Parent] | type[Recipe], raw: object, where: str) -> dict[str, Any]:
    """The fields of `raw` for `kind`; an unknown, missing or ill-typed one is `BadRecipe`."""
    if not isinstance(raw, dict):
        raise BadRecipe(f"{where} is a {type(raw).__name__}, expected an object")
    known = {one.name: one for one in fields(kind)}
    for name in raw:
        if name not in known:
            raise BadRecipe(f"{where} has the unknown field {name!r}", remedy="it was written by a newer version")
    for name, one in known.items():
        if name not in raw and one.default is MISSING and one.default_factory is MISSING:
            raise BadRecipe(f"{where} lacks the field {name!r}")
        if name in raw and (isinstance(raw[name], bool) or not isinstance(raw[name], _KINDS[str(one.type)])):
            raise BadRecipe(f"{where}: {name} is {raw[name]!r}, expected {one.type}")
    return raw
