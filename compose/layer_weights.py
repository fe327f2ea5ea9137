"""One adapter's weight: a number, or numbers by layer group.

By layer group it is a mapping of globs over module paths to numbers; the first glob that matches counts, and the last
one must be "*". Its number stands for the adapter wherever a single number is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from math import isfinite

from .errors import BadWeights

Weight = float | Mapping[str, float]
REST = "*"


def check_weight(weight: Weight, owner: str) -> None:
    """`BadWeights` where a number is not finite, or no glob would match the rest."""
    if isinstance(weight, Mapping) and (not weight or list(weight)[-1] != REST):
        raise BadWeights(f"{owner}: its last glob must be {REST!r}", remedy=f'add the weight of the rest: "{REST}": 0')
    for value in weight.values() if isinstance(weight, Mapping) else (weight,):
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise BadWeights(f"{owner}: the weight is {value}, expected a finite number")


def weight_at(weight: Weight, path: str) -> float:
    """The number that counts for the module at `path`."""
    if not isinstance(weight, Mapping):
        return float(weight)
    return float(next(value for glob, value in weight.items() if fnmatchcase(path, glob)))


def weights_at(weights: Sequence[Weight], path: str) -> list[float]:
    """The same for all adapters."""
    return [weight_at(weight, path) for weight in weights]


def main_weight(weight: Weight) -> float:
    """The single number: that of the rest."""
    return float(weight[REST]) if isinstance(weight, Mapping) else float(weight)
