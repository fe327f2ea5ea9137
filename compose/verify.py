"""Recomputes a merged adapter from its recipe and its parents, and compares it with what is there, tensor by tensor.

`remake` makes and refuses; this looks and reports: every difference is named with its key and size, nothing is written.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from .base_weights import BaseWeights
from .description import CONFIG_FILE
from .errors import MalformedAdapter
from .export import PROFILES
from .recipe import Recipe, file_sha256
from .remake import parent_differences, remake


@dataclass(frozen=True)
class TensorDifference:
    """`largest` is max |there - remade|; None where shape or dtype differ or one side lacks the tensor (`detail`)."""

    key: str
    largest: float | None
    detail: str

    def __str__(self) -> str:
        return f"{self.key}: {self.detail}"


@dataclass(frozen=True)
class Verification:
    """`findings`: what is not as recorded, a sentence each; none: reproduced. `identical`: to the last bit.

    The digests are sha256 of the weights file: as recorded, as found, as remade (None: it could not be remade).
    """

    findings: tuple[str, ...]
    tensors: tuple[TensorDifference, ...]
    compared: int
    recorded_sha256: str | None
    found_sha256: str
    remade_sha256: str | None
    notes: tuple[str, ...] = ()

    @property
    def reproduced(self) -> bool:
        return not self.findings

    @property
    def identical(self) -> bool:
        return self.reproduced and self.found_sha256 == self.remade_sha256

    @property
    def largest(self) -> float | None:
        """The largest difference of any value; None where nothing could be compared."""
        sizes = [one.largest for one in self.tensors if one.largest is not None]
        return max(sizes, default=0.0 if self.compared else None)


def verify(
    recipe: Recipe,
    parents: Sequence[Path],
    directory: Path,
    *,
    base: BaseWeights | None = None,
    initial: Sequence[Path | None] = (),
    tolerance: float = 0.0,
) -> Verification:
    """Merge the adapters in the folders `parents` again and compare with the merged adapter in `directory`.

    `initial` are the folders of the parents before training, where the recipe used them. A tensor counts as reproduced
    when no value differs by more than `tolerance`. Parents that are not the recorded ones are findings, and nothing is
    remade from them. Errors: those of reading adapters, `BadRecipe` for a base that is not at hand, `MalformedAdapter`
    when `directory` holds no readable weights.
    """
    form = PROFILES[recipe.profile]
    weights = directory / form.weights_file
    found = _tensors(weights)
    found_sha256 = file_sha256(weights)
    findings = [difference for _, difference in parent_differences(recipe, parents)]
    same_parents = not findings
    if recipe.output_sha256 not in (None, found_sha256):
        findings.append(
            f"{weights.name} is not the recorded file: sha256 {found_sha256}, the recipe says {recipe.output_sha256}"
        )
    if not same_parents:
        return Verification(tuple(findings), (), 0, recipe.output_sha256, found_sha256, None)
    with tempfile.TemporaryDirectory(prefix="mixhub-") as scratch:
        made = Path(scratch) / "adapter"
        open_recipe = replace(recipe, output_sha256=None)
        remake(open_recipe, parents, made, base=base, initial=initial)
        remade = load_file(made / form.weights_file)
        remade_sha256 = file_sha256(made / form.weights_file)
        if form.config:
            findings += _config_differences(directory / CONFIG_FILE, made / CONFIG_FILE)
    differences = tuple(_differences(found, remade))
    findings += [
        f"tensor {one} from the remade one"
        for one in differences
        if one.largest is None or not one.largest <= tolerance
    ]
    return Verification(
        tuple(findings), differences, len(found), recipe.output_sha256, found_sha256, remade_sha256,
        tuple(_other_versions(recipe.versions)),
    )  # fmt: skip


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except Exception as error:  # safetensors raises its own type, which it does not export
        raise MalformedAdapter(f"{path.name} cannot be read: {error}", remedy="pull the mix again") from error
    return tensors


def _differences(found: Mapping[str, Tensor], remade: Mapping[str, Tensor]) -> Iterator[TensorDifference]:
    for key in sorted(found.keys() | remade.keys()):
        if key not in found or key not in remade:
            yield TensorDifference(key, None, "is missing" if key in remade else "is too much, it is missing")
            continue
        here, there = found[key], remade[key]
        if here.shape != there.shape or here.dtype != there.dtype:
            what = f"{here.dtype} {tuple(here.shape)} differs, {there.dtype} {tuple(there.shape)},"
            yield TensorDifference(key, None, what)
        elif not torch.equal(here, there):
            apart = (here.double() - there.double()).abs()
            largest, count = float(apart.max()), int((apart != 0).sum())
            yield TensorDifference(key, largest, f"{count} of {here.numel()} values differ, by up to {largest:.3g},")


def _config_differences(found: Path, made: Path) -> Iterator[str]:
    """A config changes what the tensors mean: alpha, ranks, target modules."""
    try:
        here = json.loads(found.read_bytes())
    except (OSError, ValueError) as error:
        yield f"{found.name} cannot be read: {error}"
        return
    there = json.loads(made.read_bytes())
    if not isinstance(here, dict):
        yield f"{found.name} is no JSON object"
        return
    for key in sorted(here.keys() | there.keys()):
        if here.get(key) != there.get(key):
            yield f"{found.name}: {key} is {here.get(key)!r}, remade it is {there.get(key)!r}"


def _other_versions(recorded: Mapping[str, str]) -> Iterator[str]:
    for package, number in sorted(recorded.items()):
        try:
            here = version(package)
        except PackageNotFoundError:
            here = "not installed"
        if here != number:
            yield f"made with {package} {number}, here it is {here}"
