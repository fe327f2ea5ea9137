"""Objectives of the user's own: a function named `package.module:function`, or one that an installed package offers
under the entry point group `mixhub.objectives`.

    def shorter_is_better(predictions: list[str], examples: list[Example]) -> list[float]:  # 0 (wrong) to 1 (right)
        return [1 / (1 + len(text)) for text in predictions]

The code runs in this process, so a name must come from the person who runs the search, never from a request.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from operator import attrgetter

from ..errors import SearchError
from .metric_scorer import SHAPE, Metric

GROUP = "mixhub.objectives"


def find_metric(name: str) -> Metric:
    """The function of a name with a colon, or the installed objective of that name; `SearchError` when it is none."""
    found = _imported(name) if ":" in name else _installed(name)
    if not callable(found):
        raise SearchError(f"the objective {name} is a {type(found).__name__}, not a function", remedy=SHAPE)
    _check_signature(name, found)
    return found


def installed_objectives() -> list[str]:
    """Names that other packages offer."""
    return sorted(entry_points(group=GROUP).names)


def _check_signature(name: str, function: Callable[..., object]) -> None:
    try:
        takes = inspect.signature(function)
    except ValueError:  # some built-in functions do not say
        return
    try:
        takes.bind((), ())
    except TypeError as error:
        raise SearchError(
            f"the objective {name} cannot be called with (predictions, examples): it takes {takes}",
            remedy=SHAPE,
        ) from error


def _imported(name: str) -> object:
    module, _, path = name.partition(":")
    try:
        return attrgetter(path)(importlib.import_module(module))
    except Exception as error:  # whatever the module does while it is imported
        raise SearchError(
            f"cannot load the objective {name}: {type(error).__name__}: {error}",
            remedy="name it package.module:function, importable from this folder",
        ) from error


def _installed(name: str) -> object:
    found = list(entry_points(group=GROUP, name=name))
    if len(found) == 1:
        return found[0].load()
    where = ", ".join(f"{one.value}" for one in found)
    raise SearchError(
        f"several packages offer the objective {name!r}: {where}" if found else f"there is no objective {name!r}",
        remedy="" if found else "see mixhub search --help, or name your own: package.module:function",
    )
