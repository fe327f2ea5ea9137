"""Writes an adapter as plain LoRA that PEFT and others load without special cases: alpha = r, so the scaling is 1.

PROFILES says for whom: all pad modules to one rank with zeros, for readers that pass over patterns and alphas, but
`peft-pattern`, which keeps the real ranks, with full anchored paths as keys. Values are rounded once, from float32 to
the dtype of the file. The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from .adapter import Factors, LoraAdapter
from .adapter_folder import DTYPES, check_target, dtype_name, rounded, write_folder
from .card import CardFacts, card_text
from .description import WEIGHTS_FILE
from .errors import BadMethod, UnsupportedAdapter
from .gguf_layout import START, gguf_tensors, write_gguf
from .image_layout import diffusers_tensors, kohya_tensors
from .methods.factor_sum import pad_rank
from .peft_layout import lora_config, lora_tensors
from .recipe import Recipe
from .serving import check_servable, start_lines
from .truncate import largest_difference, squared_norm, truncate

BaseConfig = Mapping[str, object] | None
"""config.json of the base model, or at least its architecture (base_model.architecture_of)."""


def _write_safetensors(tensors: dict[str, Tensor], file: Path, base: BaseConfig) -> None:
    del base
    save_file(tensors, file, metadata={"format": "pt"})


@dataclass(frozen=True)
class Profile:
    """Who reads the files. Without `config` only the weights, card and recipe are written."""

    summary: str
    tensors: Callable[[LoraAdapter, Mapping[str, Factors]], dict[str, Tensor]] = lora_tensors
    of_base: Callable[[LoraAdapter, Mapping[str, Factors], BaseConfig], dict[str, Tensor]] | None = None
    """Instead of `tensors`, where names depend on the base model."""
    write: Callable[[dict[str, Tensor], Path, BaseConfig], None] = _write_safetensors
    weights_file: str = WEIGHTS_FILE
    config: bool = True
    uniform: bool = True
    check: Callable[[LoraAdapter, Mapping[str, Factors]], None] = lambda *_: None
    commands: Callable[[str | None, str, int], tuple[str, ...]] = lambda *_: ()
    """Of the base's name, the adapter's, and the rank: lines that serve it."""


PROFILES: dict[str, Profile] = {
    "peft-uniform": Profile("PEFT and all others; one rank, padded with zeros"),
    "peft-pattern": Profile("PEFT; each module's own rank, by patterns", uniform=False),
    "vllm": Profile(
        "vLLM and LoRAX: only what they accept, start lines in the card", check=check_servable, commands=start_lines
    ),
    "kohya": Profile("kohya's scripts and web UIs", kohya_tensors, weights_file="kohya_lora.safetensors", config=False),
    "diffusers": Profile("diffusers", diffusers_tensors, weights_file="pytorch_lora_weights.safetensors", config=False),
    "gguf": Profile(
        "llama.cpp",
        of_base=gguf_tensors,
        write=write_gguf,
        weights_file="adapter.gguf",
        config=False,
        commands=lambda *_: (START,),
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
    max_cut: float | None = None
    """The largest |entry| of the changes that `max_rank` left out; `None` where nothing was cut."""
    commands: tuple[str, ...] = ()
    """How to serve it, where the profile is for servers."""


def save_adapter(
    adapter: LoraAdapter,
    directory: Path,
    *,
    dtype: str | None = None,
    profile: str = "peft-uniform",
    max_rank: int | None = None,
    recipe: Recipe | None = None,
    facts: CardFacts | None = None,
    base: BaseConfig = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write config, weights, card and (if given) recipe into `directory`, which must be absent or empty.

    `max_rank` cuts modules of a higher rank by singular values. `dtype` defaults to that of the adapter's files
    (float32 for float64); `base` is for profile gguf. With `overwrite` the files of these names in an existing folder
    are replaced, and nothing else in it is touched. A recipe that says its output's digest is a promise: other bytes
    are `BadRecipe`. Raises also `OutputExists`, `BadMethod` for an unknown dtype or profile, `UnsupportedAdapter` for
    what the profile cannot hold, `MalformedAdapter` where a value does not fit the dtype. After an error nothing is
    left.
    """
    chosen = dtype or dtype_name(adapter.dtype)
    if chosen not in DTYPES or profile not in PROFILES:
        what, allowed = ("dtype", DTYPES) if chosen not in DTYPES else ("profile", PROFILES)
        raise BadMethod(f"{what} is {chosen if what == 'dtype' else profile!r}", remedy=f"use {', '.join(allowed)}")
    check_target(directory, overwrite=overwrite)
    if not adapter.modules and not adapter.multipliers:
        raise UnsupportedAdapter(
            f"{adapter.name}: changes no module by factors, so it is no LoRA", remedy="write its base with it: --fused"
        )
    cut, retained, energy, max_cut = _cut(adapter, max_rank)
    form = PROFILES[profile]
    modules = _ranked(cut, uniform=form.uniform)
    form.check(adapter, modules)
    exact = form.of_base(adapter, modules, base) if form.of_base else form.tensors(adapter, modules)
    tensors, max_change = rounded(exact, DTYPES[chosen], adapter.name)
    rank = max((factors.rank for factors in modules.values()), default=1)
    commands = form.commands(adapter.base_model, adapter.name, rank)
    said = facts or CardFacts(title=adapter.name)
    said = replace(said, commands=(*said.commands, *commands))
    digests = write_folder(
        directory,
        lambda file: form.write(tensors, file, base),
        form.weights_file,
        lora_config(adapter, modules) if form.config else None,
        lambda made: card_text(said, base_model=adapter.base_model, task_type=adapter.task_type, recipe=made),
        recipe and replace(recipe, dtype=chosen, profile=profile),
    )
    count = sum(tensor.numel() for tensor in tensors.values())
    return ExportReport(
        directory, chosen, profile, rank, count, max_change, digests, retained, energy, max_cut, commands
    )


def _cut(
    adapter: LoraAdapter, max_rank: int | None
) -> tuple[Mapping[str, Factors], dict[str, float] | None, float | None, float | None]:
    """Modules at `max_rank` at most, the share of the squared norm that each keeps, that of all together, and the
    largest |entry| that is left out."""
    if max_rank is None or adapter.max_rank <= max_rank:
        return adapter.modules, None, None, None
    if max_rank < 1:
        raise BadMethod(f"max_rank is {max_rank}", remedy="use a whole number from 1")
    cut = {path: truncate(f, max_rank) if f.rank > max_rank else f for path, f in adapter.modules.items()}
    whole = {path: squared_norm(f) for path, f in adapter.modules.items()}
    kept = {path: min(squared_norm(f), whole[path]) for path, f in cut.items()}
    shares = {path: kept[path] / whole[path] if whole[path] > 0 else 1.0 for path in cut}
    total = sum(whole.values())
    lost = max(largest_difference(adapter.modules[path], one) for path, one in cut.items())
    return cut, shares, sum(kept.values()) / total if total > 0 else 1.0, lost


def _ranked(modules: Mapping[str, Factors], *, uniform: bool) -> dict[str, Factors]:
    """Modules sorted by path, scaling folded into B, at one rank if the profile wants it."""
    folded = {
        path: f if f.scaling == 1.0 else replace(f, B=f.scaling * f.B, scaling=1.0)
        for path, f in sorted(modules.items())
    }
    rank = max((f.rank for f in folded.values()), default=0)
    return {path: pad_rank(factors, rank) for path, factors in folded.items()} if uniform else folded
