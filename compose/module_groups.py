"""Groups of modules that have a mixing weight of their own: by depth, by kind, or by globs over their paths.

A group is a name and globs; a module belongs to the first group that has a glob for it, as in `layer_weights.py`. With
groups a weight row of a search is longer: all groups of the first adapter, then all of the second, and so on.
`group_words.py` makes groups from what a person writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import fmean
from typing import Any

from .errors import SearchError
from .layer_weights import REST, Weight


@dataclass(frozen=True)
class ModuleGroups:
    """`globs` are over module paths, one tuple per name, in the order in which they are tried."""

    names: tuple[str, ...]
    globs: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def group_of(self, path: str) -> int | None:
        """The number of the group that the module at `path` belongs to; None: to none."""
        for number, globs in enumerate(self.globs):
            if any(fnmatchcase(path, glob) for glob in globs):
                return number
        return None

    def parts(self, modules: Sequence[str]) -> list[list[str]]:
        """The modules of each group, in the order given; `SearchError` for those that belong to none."""
        found: list[list[str]] = [[] for _ in self.names]
        homeless: list[str] = []
        for path in modules:
            number = self.group_of(path)
            (homeless if number is None else found[number]).append(path)
        if homeless:
            raise no_group(homeless)
        return found

    def weight(self, numbers: Sequence[float]) -> Weight:
        """One adapter's weight as `merge` takes it, from its G numbers; a single number where all are the same.

        The number of the rest, which is shown where there is room for one only, is the mean.
        """
        if len(set(numbers)) == 1:
            return float(numbers[0])
        found = {glob: float(n) for globs, n in zip(self.globs, numbers, strict=True) for glob in globs}
        return {**found, REST: found.get(REST, fmean(numbers))}

    def as_dict(self) -> dict[str, Any]:
        return {"names": list(self.names), "globs": [list(globs) for globs in self.globs]}


def stored_groups(data: Mapping[str, Any] | None) -> ModuleGroups | None:
    """The inverse of `ModuleGroups.as_dict`; None of None."""
    if not data:
        return None
    return ModuleGroups(tuple(data["names"]), tuple(tuple(globs) for globs in data["globs"]))


def column_names(adapters: Sequence[str], groups: ModuleGroups | None) -> tuple[str, ...]:
    """What the weights of a row are called: an adapter, or `team/a [layers 0-3]`."""
    if groups is None:
        return tuple(adapters)
    return tuple(f"{adapter} [{name}]" for adapter in adapters for name in groups.names)


def by_adapter(weights: Sequence[float], groups: ModuleGroups | None) -> list[Weight]:
    """A row of a search -> a weight for each adapter, for `merge`."""
    if groups is None:
        return list(weights)
    size = len(groups)
    return [groups.weight(weights[i : i + size]) for i in range(0, len(weights), size)]


def no_group(modules: Sequence[str]) -> SearchError:
    shown = ", ".join(modules[:5]) + (f" and {len(modules) - 5} more" if len(modules) > 5 else "")
    return SearchError(
        f"{len(modules)} adapted modules fit no group: {shown}",
        remedy="add a group for the rest: --groups ...,other",
    )
