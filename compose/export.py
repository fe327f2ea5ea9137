"""Writes an adapter as plain LoRA that PEFT and others load without special cases: alpha = r, so the scaling is 1.

PROFILES says for whom: `peft-uniform` pads all modules to one rank with zeros, for readers that pass over patterns;
`peft-pattern` keeps the real ranks, with full anchored paths as keys. Values are rounded once, from float32 to the
file's dtype. The same input gives the same bytes. All is written beside the target and renamed, so that a folder is
whole or absent.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .adapter import Factors, LoraAdapter
from .card import CardFacts, card_text
from .description import CONFIG_FILE, WEIGHTS_FILE
from .errors import BadMethod, BadRecipe, MalformedAdapter, OutputExists, UnsupportedAdapter
from .image_layout import diffusers_tensors, kohya_tensors
from .methods.factor_sum import pad_rank
from .peft_layout import lora_config, lora_tensors
from .recipe import RECIPE_FILE, Recipe, file_sha256, recipe_text
from .serving import check_servable, start_lines
from .truncate import squared_norm, truncate

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CARD_FILE = "README.md"


@dataclass(frozen=True)
class Profile:
    """Who reads the files. Without `config` only the weights, card and recipe are written."""

    summary: str
    tensors: Callable[[LoraAdapter, Mapping[str, Factors]], dict[str, Tensor]] = lora_tensors
    weights_file: str = WEIGHTS_FILE
    config: bool = True
    uniform: bool = True
    served: bool = False


PROFILES: dict[str, Profile] = {
    "peft-uniform": Profile("PEFT and all others; one rank, padded with zeros"),
    "peft-pattern": Profile("PEFT; each module's own rank, by patterns", uniform=False),
    "vllm": Profile("vLLM and LoRAX: only what they accept, start lines in the card", served=True),
    "kohya": Profile(
        "kohya's scripts and web UIs", kohya_tensors, "kohya_lora.safetensors", config=False, uniform=False
    ),
    "diffusers": Profile(
        "diffusers", diffusers_tensors, "pytorch_lora_weights.safetensors", config=False, uniform=False
    ),
}


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
    retained: Mapping[str, float] | None = None
    """Module path -> share of the squared norm that `max_rank` left; `None` where nothing was cut."""
    retained_energy: float | None = None
    """The same over all modules together."""
    commands: tuple[str, ...] = ()
    """How to serve it, for profile vllm."""


def save_adapter(
    adapter: LoraAdapter,
    directory: Path,
    *,
    dtype: str | None = None,
    profile: str = "peft-uniform",
    max_rank: int | None = None,
    recipe: Recipe | None = None,
    facts: CardFacts | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write config, weights, card and (if given) recipe into `directory`, which must be absent or empty.

    `max_rank` cuts modules of a higher rank by singular values. `dtype` defaults to that of the adapter's files
    (float32 for float64). With `overwrite` the files of these names in an existing folder are replaced, and nothing
    else in it is touched. A recipe that says its output's digest is a promise: other bytes are `BadRecipe`. Raises also
    `OutputExists`, `BadMethod` for an unknown dtype or profile, `UnsupportedAdapter` for what the profile cannot hold,
    `MalformedAdapter` where a value does not fit the dtype. After an error nothing is left.
    """
    chosen = dtype or _name_of(adapter.dtype)
    if chosen not in DTYPES or profile not in PROFILES:
        what, allowed = ("dtype", DTYPES) if chosen not in DTYPES else ("profile", PROFILES)
        raise BadMethod(f"{what} is {chosen if what == 'dtype' else profile!r}", remedy=f"use {', '.join(allowed)}")
    check_target(directory, overwrite=overwrite)
    if not adapter.modules and not adapter.multipliers:
        raise UnsupportedAdapter(
            f"{adapter.name}: changes no module by factors, so it is no LoRA", remedy="write its base with it: --fused"
        )
    cut, retained, energy = _cut(adapter, max_rank)
    form = PROFILES[profile]
    modules = _ranked(cut, uniform=form.uniform)
    if form.served:
        check_servable(adapter, modules)
    tensors, max_change = _rounded(form.tensors(adapter, modules), DTYPES[chosen], adapter.name)
    rank = max((factors.rank for factors in modules.values()), default=1)
    commands = start_lines(adapter.base_model, adapter.name, rank) if form.served else ()
    said = facts or CardFacts(title=adapter.name)
    said = replace(said, commands=(*said.commands, *commands))
    config = lora_config(adapter, modules) if form.config else None
    digests = _write(adapter, directory, tensors, config, form.weights_file, (recipe, chosen, profile), said)
    count = sum(tensor.numel() for tensor in tensors.values())
    return ExportReport(directory, chosen, profile, rank, count, max_change, digests, retained, energy, commands)


def _write(
    adapter: LoraAdapter,
    directory: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, object] | None,
    weights_file: str,
    promised: tuple[Recipe | None, str, str],
    facts: CardFacts,
) -> dict[str, str]:
    """All files, beside the target and then in its place; sha256 by name."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = directory.parent / f".{directory.name}.{secrets.token_hex(4)}.partial"
    scratch.mkdir()
    try:
        save_file(dict(tensors), scratch / weights_file, metadata={"format": "pt"})
        if config is not None:
            _write_text(scratch / CONFIG_FILE, json.dumps(config, indent=2, sort_keys=True) + "\n")
        recipe, dtype, profile = promised
        if recipe is not None:
            recipe = _filled(recipe, dtype, profile, file_sha256(scratch / weights_file))
            _write_text(scratch / RECIPE_FILE, recipe_text(recipe))
        card = card_text(facts, base_model=adapter.base_model, task_type=adapter.task_type, recipe=recipe)
        _write_text(scratch / CARD_FILE, card)
        digests = {file.name: file_sha256(file) for file in sorted(scratch.iterdir())}
        _move_into_place(scratch, directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return digests


def check_target(directory: Path, *, overwrite: bool) -> None:
    """`directory` may be written: it is absent, an empty folder, or `overwrite` allows it; else `OutputExists`."""
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise OutputExists(f"{directory} is not a folder", remedy="give another folder")
    if not overwrite and directory.exists() and any(directory.iterdir()):
        raise OutputExists(f"{directory} is not empty", remedy="give another folder, or allow it with --force")


def _name_of(dtype: torch.dtype) -> str:
    return next((name for name, known in DTYPES.items() if known == dtype), "float32")


def _cut(
    adapter: LoraAdapter, max_rank: int | None
) -> tuple[Mapping[str, Factors], dict[str, float] | None, float | None]:
    """Modules at `max_rank` at most, the share of the squared norm that each keeps, and that of all together."""
    if max_rank is None or adapter.max_rank <= max_rank:
        return adapter.modules, None, None
    if max_rank < 1:
        raise BadMethod(f"max_rank is {max_rank}", remedy="use a whole number from 1")
    cut = {path: truncate(f, max_rank) if f.rank > max_rank else f for path, f in adapter.modules.items()}
    whole = {path: squared_norm(f) for path, f in adapter.modules.items()}
    kept = {path: min(squared_norm(f), whole[path]) for path, f in cut.items()}
    shares = {path: kept[path] / whole[path] if whole[path] > 0 else 1.0 for path in cut}
    total = sum(whole.values())
    return cut, shares, sum(kept.values()) / total if total > 0 else 1.0


def _ranked(modules: Mapping[str, Factors], *, uniform: bool) -> dict[str, Factors]:
    """Modules sorted by path, scaling folded into B, at one rank if the profile wants it."""
    folded = {
        path: f if f.scaling == 1.0 else replace(f, B=f.scaling * f.B, scaling=1.0)
        for path, f in sorted(modules.items())
    }
    rank = max((f.rank for f in folded.values()), default=0)
    return {path: pad_rank(factors, rank) for path, factors in folded.items()} if uniform else folded


def _rounded(exact: Mapping[str, Tensor], dtype: torch.dtype, owner: str) -> tuple[dict[str, Tensor], float]:
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
