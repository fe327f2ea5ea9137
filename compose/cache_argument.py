"""The argument in which a transformers model takes the keys and values of earlier tokens.

transformers 5.24 renamed it; models that are written for older releases keep the old name. Whoever passes or reads the
argument asks here, so that the next rename is one more name in `NAMES`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from transformers import GenerationMixin

NAMES = ("cache", "past_key_values")
"""Newest first."""


def cache_argument(call: Callable[..., Any]) -> str:
    """The name that `call` (a model's `forward` or `generate`) has for it; one that lists none takes the library's."""
    return _listed(call) or _listed(GenerationMixin.prepare_inputs_for_generation) or NAMES[0]


def given_cache(arguments: Mapping[str, Any]) -> Any:
    """The cache among the keyword `arguments` of a call, under any of its names; None: there is none."""
    return next((arguments[name] for name in NAMES if arguments.get(name) is not None), None)


def _listed(call: Callable[..., Any]) -> str | None:
    listed = inspect.signature(call).parameters
    return next((name for name in NAMES if name in listed), None)
