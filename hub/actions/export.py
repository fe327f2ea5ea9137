"""Write an adapter for use elsewhere: plain LoRA files, or its base model with the adapter fused in."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from compose.card import CardFacts
from compose.recipe import RECIPE_FILE, read_recipe
from hub.actions.compose import PinnedPart, pin_parts
from hub.address import Address
from hub.base_lookup import FoundBase, require_base
from hub.bound_base import bound_base
from hub.errors import UnknownBase, UsageError, WouldOverwrite
from hub.home import Home


@dataclass(frozen=True)
class Exported:
    directory: Path
    address: Address
    commit_id: str
    fused: bool
    max_change: float
    """The largest |written - float32 truth| of any value."""
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return {
            "directory": str(self.directory),
            "address": str(self.address),
            "commit": self.commit_id,
            "fused": self.fused,
            "max_change": self.max_change,
            "notes": list(self.notes),
        }


def export(
    home: Home,
    address: Address,
    to: Path,
    *,
    profile: str = "peft-uniform",
    dtype: str = "",
    fused: bool = False,
    base: str = "",
    force: bool = False,
) -> Exported:
    """Write the adapter at `address` to the folder `to`, which must be absent or empty unless `force` is given.

    With `fused` the base model is written with the adapter added in; `base` says where it is, if this home does not
    know. Errors: an adapter that cannot be mixed cannot be exported as plain LoRA either.
    """
    if base and not fused:
        raise UsageError("--base is for --fused", remedy="add --fused, or leave --base out")
    if to.exists() and not force and (not to.is_dir() or any(to.iterdir())):
        raise WouldOverwrite(f"'{to}' is not empty", remedy="give another folder, or --force to replace it")
    [part] = pin_parts(home, [address])
    if fused:
        change, notes = _fuse(part, _base_of(home, part, base), to)
    else:
        change, notes = _plain(part, to, profile=profile, dtype=dtype, force=force)
    return Exported(to, address, part.pinned.revision.commit_id, fused, change, notes)


def _plain(part: PinnedPart, to: Path, *, profile: str, dtype: str, force: bool) -> tuple[float, tuple[str, ...]]:
    from compose.export import save_adapter
    from compose.peft_files import read_adapter

    recipe_file = part.directory / RECIPE_FILE
    report = save_adapter(
        read_adapter(part.directory, name=part.name), to, profile=profile, dtype=dtype or None, overwrite=force,
        facts=CardFacts(title=part.address.adapter_id, license=part.facts.licence),
    )  # fmt: skip
    if recipe_file.is_file():
        recipe = read_recipe(recipe_file)
        if recipe.output_sha256 == report.sha256["adapter_model.safetensors"]:
            for source in filter(Path.is_file, (recipe_file, part.directory / "README.md")):
                shutil.copyfile(source, to / source.name)
    return report.max_change, ()


def _fuse(part: PinnedPart, base: FoundBase, to: Path) -> tuple[float, tuple[str, ...]]:
    from compose.fuse import fuse
    from compose.peft_files import read_adapter

    if base.directory is None:
        raise UnknownBase(f"the files of the base model {base.name} are not on this machine", remedy="--base FOLDER")
    adapter = read_adapter(part.directory, name=part.name)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}-", dir=to.parent) as scratch:
        made = Path(scratch) / "model"
        report = fuse(base.directory, adapter, made)
        _move_model(made, to)
    return report.max_rounding, (f"{len(report.changed)} tensors of {base.name} changed",)


def _move_model(made: Path, to: Path) -> None:
    """Give a written model its place. Weights that were there go: loaders might prefer them. Other files stay."""
    to.mkdir(exist_ok=True)
    for old in to.glob("model*.safetensors*"):
        old.unlink()
    for file in made.iterdir():
        file.replace(to / file.name)


def _base_of(home: Home, part: PinnedPart, given: str) -> FoundBase:
    """The base to fuse into: the given one, or the one that the adapter is bound to; never another identity."""
    if given:
        found = require_base(home, given)
        if part.facts.base_identity not in (None, found.identity(home)):
            raise UnknownBase(
                f"{part.address} belongs to the base {str(part.facts.base_identity)[:12]}, {given} is another one",
                remedy="give the base that it was trained on",
            )
        return found
    if part.facts.base_identity is None:
        raise UnknownBase(f"the base model of {part.address} is not known here", remedy="--base FOLDER_OR_NAME")
    return bound_base(home, part.facts.base_identity, option="--base FOLDER")
