"""Finds the tensors of a base model that a module path means. Works on names alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


def locate_weight(path: str, kind: str, names: Iterable[str]) -> tuple[str, ...]:
    """The tensors that can be the weight of the module at `path`, whose kind says how it is called."""
    return locate([path], names, suffix=".in_proj_weight" if kind == "attention" else ".weight")[path]


def locate(paths: Iterable[str], names: Iterable[str], *, suffix: str = ".weight") -> dict[str, tuple[str, ...]]:
    """Module path -> the tensors that can be its weight.

    A checkpoint may lack the prefix that the model class adds (`transformer.h.0...`), or have one that it drops, so a
    path and a tensor meet when one ends in the other at a dot; an exact match is taken alone.
    """
    by_last: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if name.endswith(suffix):
            module = name.removesuffix(suffix)
            by_last[module.rpartition(".")[2]].append(module)
    found: dict[str, tuple[str, ...]] = {}
    for path in paths:
        near = [m for m in by_last[path.rpartition(".")[2]] if f".{m}".endswith(f".{path}") or path.endswith(f".{m}")]
        found[path] = tuple(f"{module}{suffix}" for module in ([path] if path in near else near))
    return found
