"""LoRA adapters as tensors: read, compare, merge, search weights for, export.

    from compose import load_adapter, merge, save_adapter
    mixed = merge([load_adapter(a), load_adapter(b)], [0.6, -0.3]).adapter
    save_adapter(mixed, target)

The names below are loaded when first used, so that `import compose`, `compose.errors` and `compose.describe` need no
torch. Knows tensors and local paths only: no network, database, environment variables or globals.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base_weights import BaseWeights as BaseWeights
    from .compatibility import compare as compare
    from .description import describe as describe
    from .export import save_adapter as save_adapter
    from .fuse import fuse as fuse
    from .merge import merge as merge
    from .methods import METHODS as METHODS
    from .peft_files import read_adapter as load_adapter  # noqa: F401 (for type checkers; loaded by __getattr__)
    from .remake import remake as remake
    from .search import search as search
    from .verify import verify as verify

# public name -> (module, name there)
_EXPORTS = {
    "BaseWeights": ("base_weights", "BaseWeights"),
    "METHODS": ("methods", "METHODS"),
    "compare": ("compatibility", "compare"),
    "describe": ("description", "describe"),
    "fuse": ("fuse", "fuse"),
    "load_adapter": ("peft_files", "read_adapter"),
    "merge": ("merge", "merge"),
    "remake": ("remake", "remake"),
    "save_adapter": ("export", "save_adapter"),
    "search": ("search", "search"),
    "verify": ("verify", "verify"),
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _EXPORTS[name]
    return getattr(import_module(f".{module}", __name__), attribute)


class _Package(ModuleType):
    """`compose.merge` is a function and also a file; importing the file must not hide the function."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _EXPORTS and isinstance(value, ModuleType):
            value = getattr(value, _EXPORTS[name][1])
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
