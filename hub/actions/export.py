"""Write an adapter for use elsewhere: plain LoRA files, or its base model with the adapter fused in."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compose.card import CardFacts
from compose.recipe import RECIPE_FILE, read_recipe
from hub.actions.parts import PinnedPart, pin_parts, with_initial
from hub.address import Address
from hub.base_lookup import FoundBase, require_base
from hub.bound_base import bound_base
from hub.errors import UnknownBase, UsageError, WouldOverwrite
from hub.home import Home
from hub.push import push_folder
from hub.read_parts import base_of_parts, read_parts

if TYPE_CHECKING:
    from compose.adapter import LoraAdapter
    from compose.export import ExportReport


@dataclass(frozen=True)
class Exported:
    directory: Path
    address: Address
    commit_id: str
    fused: bool
    max_change: float
    """The largest |written - float32 truth| of any value."""
    notes: tuple[str, ...]
    retained_energy: float | None = None
    """Share of the squared norm that --max-rank left, over all modules."""
    retained: Mapping[str, float] = field(default_factory=dict)
    """The same by module; empty where nothing was cut."""
    max_cut: float | None = None
    """The largest |entry| of the changes of weights that --max-rank left out; None where nothing was cut."""
    commands: tuple[str, ...] = ()
    """Lines that serve it."""
    pushed: str | None = None
    """URL of the commit at the hub that it was pushed to."""

    def as_dict(self) -> dict[str, object]:
        return {
            "directory": str(self.directory),
            "address": str(self.address),
            "commit": self.commit_id,
            "fused": self.fused,
            "max_change": self.max_change,
            "notes": list(self.notes),
            "retained_energy": self.retained_energy,
            "retained": dict(self.retained),
            "max_cut": self.max_cut,
            "commands": list(self.commands),
            "pushed": self.pushed,
        }


def export(
    home: Home,
    address: Address,
    to: Path,
    *,
    profile: str = "peft-uniform",
    dtype: str = "",
    max_rank: int | None = None,
    fused: bool = False,
    base: str = "",
    initial: Path | None = None,
    force: bool = False,
) -> Exported:
    """Write the adapter at `address` to the folder `to`, which must be absent or empty unless `force` is given.

    With `fused` the base model is written with the adapter added in; `base` says where it is, if this home does not
    know; `initial` is the folder of a PiSSA or OLoRA adapter before training.

    Errors: an adapter that cannot be mixed cannot be exported as plain LoRA either.
    """
    if fused and (max_rank or dtype):
        raise UsageError(
            "--max-rank and --dtype are for adapters", remedy="a fused base keeps its own dtype and needs no rank"
        )
    if to.exists() and not force and (not to.is_dir() or any(to.iterdir())):
        raise WouldOverwrite(f"'{to}' is not empty", remedy="give another folder, or --force to replace it")
    [part] = with_initial(pin_parts(home, [address]), {address.adapter_id: initial} if initial else {})
    commit = part.pinned.revision.commit_id
    if fused:
        change, notes = _fuse(part, _base_of(home, part, base), to)
        return Exported(to, address, commit, fused, change, notes)
    [adapter] = read_parts([part], base_of_parts(home, [part], base))
    architecture = _architecture(_base_of(home, part, base)) if profile == "gguf" else None
    report = _plain(
        part, adapter, to, profile=profile, dtype=dtype, max_rank=max_rank, architecture=architecture, force=force
    )
    return Exported(
        to, address, commit, fused, report.max_change, (),
        report.retained_energy, report.retained or {}, report.max_cut, report.commands,
    )  # fmt: skip


def push(done: Exported, repo_id: str, *, endpoint: str = "", private: bool = False) -> Exported:
    """Upload what was exported to `repo_id` at any hub of the Hugging Face protocol."""
    url = push_folder(done.directory, repo_id, endpoint=endpoint, private=private, message=f"Export of {done.address}")
    return replace(done, pushed=url)


def _plain(
    part: PinnedPart,
    adapter: LoraAdapter,
    to: Path,
    *,
    profile: str,
    dtype: str,
    max_rank: int | None,
    architecture: Mapping[str, object] | None,
    force: bool,
) -> ExportReport:
    from compose.export import save_adapter

    recipe_file = part.directory / RECIPE_FILE
    report = save_adapter(
        adapter, to, profile=profile, dtype=dtype or None, max_rank=max_rank, base=architecture, overwrite=force,
        facts=CardFacts(title=part.address.adapter_id, license=part.facts.licence),
    )  # fmt: skip
    if recipe_file.is_file():
        recipe = read_recipe(recipe_file)
        if recipe.output_sha256 == report.sha256.get("adapter_model.safetensors"):
            for source in filter(Path.is_file, (recipe_file, part.directory / "README.md")):
                shutil.copyfile(source, to / source.name)
    return report


def _fuse(part: PinnedPart, base: FoundBase, to: Path) -> tuple[float, tuple[str, ...]]:
    from compose.base_weights import BaseWeights
    from compose.fuse import fuse

    if base.directory is None:
        raise UnknownBase(f"the files of the base model {base.name} are not on this machine", remedy="--base FOLDER")
    [adapter] = read_parts([part], BaseWeights(base.directory))
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}-", dir=to.parent) as scratch:
        made = Path(scratch) / "model"
        report = fuse(base.directory, adapter, made)
        _move_model(made, to)
    notes = [f"{len(report.changed)} tensors of {base.name} changed"]
    if report.untied:
        notes.append("the head was tied to the embedding and is a tensor of its own now (tie_word_embeddings: false)")
    if report.quantised:
        notes.append(
            f"trained on {report.quantised}, a quantised copy; it was added to {base.name} in full precision, "
            "which differs from that by rounding"
        )
    return report.max_rounding, tuple(notes)


def _move_model(made: Path, to: Path) -> None:
    """Give a written model its place. Weights that were there go: loaders might prefer them. Other files stay."""
    to.mkdir(exist_ok=True)
    for old in to.glob("model*.safetensors*"):
        old.unlink()
    for file in made.iterdir():
        file.replace(to / file.name)


def _architecture(base: FoundBase) -> dict[str, object]:
    """What a config.json says of it; a head without a tensor of its own is tied."""
    tied = not any(name.endswith("lm_head.weight") for name in base.facts.shapes)
    return {**base.facts.architecture, "tie_word_embeddings": tied}


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
