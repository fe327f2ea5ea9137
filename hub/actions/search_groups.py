"""Groups of modules for a search: what its `--groups` means for the adapters that take part."""

from __future__ import annotations

from collections.abc import Sequence

from compose.description import describe
from compose.group_words import module_groups
from compose.module_groups import ModuleGroups
from hub.actions.parts import PinnedPart
from hub.base_lookup import FoundBase


def groups_for(parts: Sequence[PinnedPart], text: str | None, base: FoundBase) -> ModuleGroups | None:
    """The groups that `text` says for the modules that any of `parts` changes; None where nothing was said.

    `SearchError` for a text that means nothing, and for modules that fit no group.
    """
    if text is None:
        return None
    shapes = {name: tuple(sizes) for name, sizes in base.facts.shapes.items()}
    described = [describe(part.directory, name=part.name, base_shapes=shapes) for part in parts]
    return module_groups(text, [module.path for facts in described for module in facts.modules])
