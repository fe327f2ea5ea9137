"""Reads the adapters of a mix into tensors, with their base model where one of them cannot do without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compose.description import AdapterDescription, describe
from compose.families import SHAPED_BY_BASE
from hub.base_lookup import require_base
from hub.bound_base import bound_base
from hub.errors import UnknownBase
from hub.home import Home

if TYPE_CHECKING:
    from compose.adapter import LoraAdapter
    from compose.base_weights import BaseWeights
    from hub.actions.parts import PinnedPart


def read_parts(parts: Sequence[PinnedPart], base: BaseWeights | None) -> list[LoraAdapter]:
    """All of `parts` as tensors, under their names."""
    from compose.peft_files import read_adapter

    return [
        read_adapter(part.directory, name=part.name, base=None if part.initial else base, initial=part.initial)
        for part in parts
    ]


def base_of_parts(home: Home, parts: Sequence[PinnedPart], given: str) -> BaseWeights | None:
    """The base model's tensors where an adapter needs them, replaces some, or keeps convolutions flat; else `None`.

    `UnknownBase` when an adapter needs a base that is not on this machine, or `given` is another one.
    """
    from compose.base_weights import BaseWeights

    descriptions = [describe(part.directory, name=part.name) for part in parts]
    needed = any(facts.needs_base and not part.initial for part, facts in zip(parts, descriptions, strict=True))
    wanted = needed or any(facts.extras for facts in descriptions)
    if not wanted and not any(facts.peft_type in SHAPED_BY_BASE for facts in descriptions):
        return None
    try:
        base = BaseWeights(_folder(home, parts, given))
    except UnknownBase:
        if given or needed:
            raise
        return None
    return base if wanted or _shows_kernels(base, parts, descriptions) else None


def _shows_kernels(base: BaseWeights, parts: Sequence[PinnedPart], descriptions: Sequence[AdapterDescription]) -> bool:
    """Whether `base` tells shapes otherwise than the files alone: of convolutions that they keep flat."""
    shown = [describe(part.directory, name=part.name, base_shapes=base.shapes) for part in parts]
    return [facts.modules for facts in shown] != [facts.modules for facts in descriptions]


def _folder(home: Home, parts: Sequence[PinnedPart], given: str) -> Path:
    bound = {part.facts.base_identity for part in parts} - {None}
    if given:
        found = require_base(home, given)
        if bound and bound != {found.identity(home)}:
            raise UnknownBase(
                f"the adapters are bound to the base {str(next(iter(bound)))[:12]}, {given} is another one",
                remedy="give the base that they were trained on",
            )
    elif len(bound) != 1:
        raise UnknownBase("the base model of these adapters is not known here", remedy="--base FOLDER_OR_NAME")
    else:
        found = bound_base(home, str(bound.pop()), option="--base FOLDER")
    if found.directory is None:
        raise UnknownBase(f"the files of the base model {found.name} are not on this machine", remedy="--base FOLDER")
    return found.directory
