"""Makes a merged adapter again from its recipe and its parents' folders; the result must be the same, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .adapter import LoraAdapter
from .base_model import fingerprint
from .base_weights import BaseWeights
from .card import CardFacts
from .description import CONFIG_FILE, WEIGHTS_FILE
from .errors import BadRecipe
from .export import ExportReport, save_adapter
from .merge import merge
from .methods import find_method
from .peft_files import read_adapter
from .prompt_mean import mix_prompts, save_prompt
from .recipe import Parent, Recipe, file_sha256, weights_of
from .refusals import PROMPT_MEAN


def remake(
    recipe: Recipe,
    parents: Sequence[Path],
    directory: Path,
    *,
    facts: CardFacts | None = None,
    base: BaseWeights | None = None,
    initial: Sequence[Path | None] = (),
    overwrite: bool = False,
) -> ExportReport:
    """Merge the adapters in the folders `parents`, in the recipe's order, and write the result into `directory`.

    `initial` are the folders of the parents before training, where the recipe used them, in the same order.

    Every parent's files must have the recorded digests, and so must the new weights; else `BadRecipe`, and nothing is
    written.
    """
    check_parents(recipe, parents)
    if recipe.method == PROMPT_MEAN:
        names = [parent.address for parent in recipe.parents]
        mean = mix_prompts(parents, weights_of(recipe), names=names, into="mean", params=recipe.params)
        return save_prompt(mean, directory, dtype=recipe.dtype, recipe=recipe, facts=facts, overwrite=overwrite)
    return save_adapter(
        merged_again(recipe, parents, base, initial),
        directory,
        dtype=recipe.dtype,
        profile=recipe.profile,
        recipe=recipe,
        facts=facts,
        overwrite=overwrite,
    )


def merged_again(
    recipe: Recipe, parents: Sequence[Path], base: BaseWeights | None, initial: Sequence[Path | None] | None = None
) -> LoraAdapter:
    """The merged adapter in float32, before it is rounded to the recipe's dtype. `BadRecipe` without its base."""
    if recipe.base is not None and (base is None or fingerprint(base.directory).digest != recipe.base):
        found = "none" if base is None else base.directory.name
        raise BadRecipe(
            f"the recipe used the tensors of the base model {recipe.base[:12]}, {found} is at hand",
            remedy="give that base: --base FOLDER_OR_NAME",
        )
    options: dict[str, Any] = find_method(recipe.method).resolve(recipe.params)
    used = base if recipe.base is not None else None
    before = _checked_initial(recipe, initial or [None] * len(parents))
    adapters = [
        read_adapter(directory, name=parent.address, base=None if start else used, initial=start)
        for directory, parent, start in zip(parents, recipe.parents, before, strict=True)
    ]
    return merge(
        adapters,
        weights_of(recipe),
        method=recipe.method,
        max_rank=recipe.max_rank,
        policies=recipe.policies,
        base=used,
        **options,
    ).adapter


def _checked_initial(recipe: Recipe, folders: Sequence[Path | None]) -> list[Path | None]:
    """The folders of those parents that were read with their initial factors, each with the recorded weights."""
    for parent, folder in zip(recipe.parents, folders, strict=True):
        found = file_sha256(folder / WEIGHTS_FILE) if folder and (folder / WEIGHTS_FILE).is_file() else None
        if parent.initial_sha256 not in (None, found):
            raise BadRecipe(
                f"{parent.address}: its initial factors are {'not the recorded ones' if folder else 'not given'}: "
                f"sha256 {found}, expected {parent.initial_sha256}",
                remedy=f"--initial {parent.address}=FOLDER, with the adapter as it was saved before training",
            )
    pairs = zip(recipe.parents, folders, strict=True)
    return [folder if parent.initial_sha256 else None for parent, folder in pairs]


def check_parents(recipe: Recipe, parents: Sequence[Path]) -> None:
    """One folder per parent, each with exactly the recorded files; else `BadRecipe`."""
    for parent, difference in parent_differences(recipe, parents):
        raise BadRecipe(difference, remedy=f"get revision {parent.commit or 'that was mixed'} of it")


def parent_differences(recipe: Recipe, parents: Sequence[Path]) -> Iterator[tuple[Parent, str]]:
    """Every file of a parent that is not the recorded one; `BadRecipe` when there are too few or too many folders."""
    if len(parents) != len(recipe.parents):
        raise BadRecipe(f"the recipe has {len(recipe.parents)} parents, {len(parents)} folders were given")
    for directory, parent in zip(parents, recipe.parents, strict=True):
        recorded = {WEIGHTS_FILE: parent.weights_sha256, CONFIG_FILE: parent.config_sha256}
        for name, expected in recorded.items():
            found = file_sha256(directory / name) if (directory / name).is_file() else "missing"
            if found != expected:
                yield (
                    parent,
                    f"{parent.address}: {name} is not the recorded one: sha256 {found}, expected {expected}",
                )
