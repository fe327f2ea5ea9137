"""Writes an adapter as plain LoRA that PEFT and others load without special cases: alpha = r, so the scaling is 1.

Profiles: `peft-uniform` pads all modules to one rank with zeros, for readers that pass over patterns; `peft-pattern`
keeps the real ranks, with full anchored paths as keys. Values are rounded once, from float32 to the file's dtype. The
same input gives the same bytes. All is written beside the target and renamed, so that a folder is whole or absent.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .adapter import Factors, LoraAdapter
from .card import CardFacts, card_text
from .description import CONFIG_FILE, WEIGHTS_FILE
from .errors import BadMethod, BadRecipe, MalformedAdapter, OutputExists
from .methods.factor_sum import pad_rank
from .peft_keys import write_key
from .recipe import RECIPE_FILE, Recipe, file_sha256, recipe_text

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PROFILES = ("peft-uniform", "peft-pattern")
CARD_FILE = "README.md"


@dataclass(frozen=True)
class ExportReport:
    """What was written: sha256 by file name, and `max_change`, the largest |rounded - float32| of any value."""

    directory: Path
    dtype: str
    profile: str
    rank: int
    parameter_count: int
    max_change: float
    sha256: Mapping[str, str]


def save_adapter(
    adapter: LoraAdapter,
    directory: Path,
    *,
    dtype: str | None = None,
    profile: str = "peft-uniform",
    recipe: Recipe | None = None,
    facts: CardFacts | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write config, weights, card and (if given) recipe into `directory`, which must be absent or empty.

    `dtype` defaults to that of the adapter's files (float32 for float64). With `overwrite` the files of these names in
    an existing folder are replaced, and nothing else in it is touched. A recipe that says its output's digest is a
    promise: other bytes are `BadRecipe`. Raises also `OutputExists`, `BadMethod` for an unknown dtype or profile,
    `MalformedAdapter` where a value does not fit the dtype. After an error nothing is left.
    """
    chosen = dtype or _name_of(adapter.dtype)
    if chosen not in DTYPES or profile not in PROFILES:
        what, allowed = ("dtype", DTYPES) if chosen not in DTYPES else ("profile", PROFILES)
        raise BadMethod(f"{what} is {chosen if what == 'dtype' else profile!r}", remedy=f"use {', '.join(allowed)}")
    check_target(directory, overwrite=overwrite)
    modules = _ranked(adapter, profile)
    tensors, max_change = _rounded(modules, DTYPES[chosen], adapter.name)
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = directory.parent / f".{directory.name}.{secrets.token_hex(4)}.partial"
    scratch.mkdir()
    try:
        save_file(tensors, scratch / WEIGHTS_FILE, metadata={"format": "pt"})
        _write(scratch / CONFIG_FILE, json.dumps(_config(adapter, modules), indent=2, sort_keys=True) + "\n")
        if recipe is not None:
            recipe = _filled(recipe, chosen, profile, file_sha256(scratch / WEIGHTS_FILE))
            _write(scratch / RECIPE_FILE, recipe_text(recipe))
        card = card_text(
            facts or CardFacts(title=adapter.name),
            base_model=adapter.base_model,
            task_type=adapter.task_type,
            recipe=recipe,
        )
        _write(scratch / CARD_FILE, card)
        digests = {file.name: file_sha256(file) for file in sorted(scratch.iterdir())}
        _move_into_place(scratch, directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    count = sum(tensor.numel() for tensor in tensors.values())
    rank = max(factors.rank for factors in modules.values())
    return ExportReport(directory, chosen, profile, rank, count, max_change, digests)


def check_target(directory: Path, *, overwrite: bool) -> None:
    """`directory` may be written: it is absent, an empty folder, or `overwrite` allows it; else `OutputExists`."""
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise OutputExists(f"{directory} is not a folder", remedy="give another folder")
    if not overwrite and directory.exists() and any(directory.iterdir()):
        raise OutputExists(f"{directory} is not empty", remedy="give another folder, or allow it with --force")


def _name_of(dtype: torch.dtype) -> str:
    return next((name for name, known in DTYPES.items() if known == dtype), "float32")


def _ranked(adapter: LoraAdapter, profile: str) -> dict[str, Factors]:
    """Modules sorted by path, scaling folded into B, at one rank if the profile wants it."""
    if not adapter.modules:
        raise MalformedAdapter(f"{adapter.name}: has no module to write")
    folded = {
        path: Factors(f.A, f.B if f.scaling == 1.0 else f.scaling * f.B) for path, f in sorted(adapter.modules.items())
    }
    if profile == "peft-pattern":
        return folded
    return {path: pad_rank(factors, adapter.max_rank) for path, factors in folded.items()}


def _rounded(modules: Mapping[str, Factors], dtype: torch.dtype, owner: str) -> tuple[dict[str, Tensor], float]:
    """The tensors under their names in PEFT, in `dtype`, and the largest change that rounding made."""
    tensors: dict[str, Tensor] = {}
    largest = 0.0
    for path, factors in modules.items():
        for letter, exact in (("A", factors.A), ("B", factors.B)):
            key = write_key(path, letter)
            # its own memory: the writer refuses tensors that share it
            tensors[key] = exact.detach().to(device="cpu", dtype=dtype, copy=True).contiguous()
            change = (tensors[key].double() - exact.detach().cpu().double()).abs().max().item()
            if not change < float("inf"):
                raise MalformedAdapter(
                    f"{owner}: {key} holds values that {dtype} cannot hold",
                    remedy="use dtype float32 or smaller weights",
                )
            largest = max(largest, change)
    return tensors, largest


def _config(adapter: LoraAdapter, modules: Mapping[str, Factors]) -> dict[str, object]:
    """adapter_config.json with the fields that every PEFT since 0.5 knows; the rest keep their defaults.

    Targets are full module paths: a short name such as `q` would also match layers that the adapter does not have.
    """
    rank = max(factors.rank for factors in modules.values())
    pattern = {f"^{re.escape(path)}$": f.rank for path, f in modules.items() if f.rank != rank}
    return {
        "alpha_pattern": pattern,
        "auto_mapping": None,
        "base_model_name_or_path": adapter.base_model,
        "bias": "none",
        "fan_in_fan_out": adapter.fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": pattern,
        "revision": None,
        "target_modules": sorted(modules),
        "task_type": adapter.task_type,
        "use_rslora": False,
    }


def _filled(recipe: Recipe, dtype: str, profile: str, output_sha256: str) -> Recipe:
    """The recipe with what only the writer knows; `BadRecipe` where it promises other bytes."""
    if recipe.output_sha256 not in (None, output_sha256):
        made_with = ", ".join(f"{name} {number}" for name, number in sorted(recipe.versions.items()))
        raise BadRecipe(
            f"remaking gave other bytes: sha256 {output_sha256}, the recipe says {recipe.output_sha256}",
            remedy=f"install the versions it was made with: {made_with or 'not recorded'}",
        )
    versions = recipe.versions or {name: version(name) for name in ("mixhub", "safetensors", "torch")}
    return replace(recipe, dtype=dtype, profile=profile, versions=versions, output_sha256=output_sha256)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _move_into_place(scratch: Path, directory: Path) -> None:
    if not directory.exists() or not any(directory.iterdir()):
        scratch.replace(directory)
        return
    if not (scratch / RECIPE_FILE).exists():
        (directory / RECIPE_FILE).unlink(missing_ok=True)  # it would tell of other weights
    for file in sorted(scratch.iterdir()):
        file.replace(directory / file.name)
