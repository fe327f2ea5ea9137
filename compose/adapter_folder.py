"""Writes the files of an adapter as a folder that is whole or absent: beside the target first, then renamed."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from .description import CONFIG_FILE
from .errors import BadRecipe, MalformedAdapter, OutputExists
from .recipe import RECIPE_FILE, Recipe, file_sha256, recipe_text

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CARD_FILE = "README.md"


def check_target(directory: Path, *, overwrite: bool) -> None:
    """`directory` may be written: it is absent, an empty folder, or `overwrite` allows it; else `OutputExists`."""
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise OutputExists(f"{directory} is not a folder", remedy="give another folder")
    if not overwrite and directory.exists() and any(directory.iterdir()):
        raise OutputExists(f"{directory} is not empty", remedy="give another folder, or allow it with --force")


def write_folder(
    directory: Path,
    save_weights: Callable[[Path], None],
    weights_file: str,
    config: Mapping[str, object] | None,
    card: Callable[[Recipe | None], str],
    recipe: Recipe | None = None,
) -> dict[str, str]:
    """All files of an adapter, beside the target and then in its place; sha256 by name.

    `save_weights` writes the file it is given; `card` makes the text of the recipe as it will stand beside it. A recipe
    that promises other weights is `BadRecipe`, and nothing is left.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = directory.parent / f".{directory.name}.{secrets.token_hex(4)}.partial"
    scratch.mkdir()
    try:
        save_weights(scratch / weights_file)
        if config is not None:
            _write_text(scratch / CONFIG_FILE, json.dumps(config, indent=2, sort_keys=True) + "\n")
        if recipe is not None:
            recipe = _filled(recipe, file_sha256(scratch / weights_file))
            _write_text(scratch / RECIPE_FILE, recipe_text(recipe))
        _write_text(scratch / CARD_FILE, card(recipe))
        digests = {file.name: file_sha256(file) for file in sorted(scratch.iterdir())}
        _move_into_place(scratch, directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return digests


def dtype_name(dtype: torch.dtype) -> str:
    """Its name where a file can be written in it; float32 for float64."""
    return next((name for name, known in DTYPES.items() if known == dtype), "float32")


def rounded(exact: Mapping[str, Tensor], dtype: torch.dtype, owner: str) -> tuple[dict[str, Tensor], float]:
    """The tensors in `dtype`, and the largest change that rounding made."""
    tensors: dict[str, Tensor] = {}
    largest = 0.0
    for key, value in exact.items():
        # its own memory: the writer refuses tensors that share it
        tensors[key] = value.detach().to(device="cpu", dtype=dtype, copy=True).contiguous()
        change = (tensors[key].double() - value.detach().cpu().double()).abs().max().item()
        if not change < float("inf"):
            raise MalformedAdapter(
                f"{owner}: {key} holds values that {dtype} cannot hold",
                remedy="use dtype float32 or smaller weights",
            )
        largest = max(largest, change)
    return tensors, largest


def _filled(recipe: Recipe, output_sha256: str) -> Recipe:
    """The recipe with what only the writer knows; `BadRecipe` where it promises other bytes."""
    if recipe.output_sha256 not in (None, output_sha256):
        made_with = ", ".join(f"{name} {number}" for name, number in sorted(recipe.versions.items()))
        raise BadRecipe(
            f"remaking gave other bytes: sha256 {output_sha256}, the recipe says {recipe.output_sha256}",
            remedy=f"install the versions it was made with: {made_with or 'not recorded'}",
        )
    versions = recipe.versions or {name: version(name) for name in ("mixhub", "safetensors", "torch")}
    return replace(recipe, versions=versions, output_sha256=output_sha256)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _move_into_place(scratch: Path, directory: Path) -> None:
    if not directory.exists() or not any(directory.iterdir()):
        scratch.replace(directory)
        return
    if not (scratch / RECIPE_FILE).exists():
        (directory / RECIPE_FILE).unlink(missing_ok=True)  # it would tell of other weights
    for file in sorted(scratch.iterdir()):
        file.replace(directory / file.name)
