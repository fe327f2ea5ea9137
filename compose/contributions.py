"""What each adapter does for a mix on the examples: its loss with that adapter (all of its groups) left out, and the
losses example by example, all scored as one batch. No search is run again: the other weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .scoring.protocol import Scorer

MIX = "mix"


@dataclass(frozen=True)
class Contribution:
    """One adapter of a mix. Losses are means over the examples.

    `gain` is `loss_without` minus the loss of the mix: above 0 the adapter helps, below 0 the mix is better without it.
    `error` is the standard error of that mean difference over the examples; None of a single example.
    """

    name: str
    weight: float
    loss_without: float
    gain: float
    error: float | None

    @property
    def negative(self) -> bool:
        return self.gain < 0


@dataclass(frozen=True)
class Explanation:
    """`contributions` of the adapters with a weight, greatest gain first. `example_losses`: what was compared ("mix"
    and the names given) -> (E,) losses. `evaluations`: weight rows scored for this."""

    contributions: tuple[Contribution, ...]
    example_losses: Mapping[str, tuple[float, ...]]
    evaluations: int


def explain(
    scorer: Scorer,
    weights: Sequence[float],
    *,
    compared: Mapping[str, Sequence[float]] | None = None,
    names: Sequence[str] = (),
) -> Explanation:
    """Leave each adapter out of the mix `weights` once, and score the rows `compared` beside it; one batch.

    `names` are the adapters; by default as the scorer names them. Where each has several weights, all of them are left
    out, and the weight that is told is their mean.
    """
    mix = np.asarray(weights, dtype=np.float64)
    owners = tuple(names) or scorer.adapter_names
    table = mix.reshape(len(owners), -1)
    used = np.flatnonzero(table.any(axis=1))
    others = compared or {}
    left_out_once = np.repeat(table[None], len(used), axis=0)
    left_out_once[np.arange(len(used)), used] = 0.0
    without = left_out_once.reshape(len(used), len(mix))
    rows = np.concatenate([mix[None, :], *(np.asarray([row], dtype=np.float64) for row in others.values()), without])
    losses = scorer.example_losses(rows)
    shown = {name: tuple(row.tolist()) for name, row in zip((MIX, *others), losses, strict=False)}
    found = [
        _contribution(owners[i], float(table[i].mean()), left_out, losses[0])
        for i, left_out in zip(used, losses[1 + len(others) :], strict=True)
    ]
    return Explanation(tuple(sorted(found, key=lambda one: (-one.gain, one.name))), shown, len(rows))


def _contribution(name: str, weight: float, without: NDArray[np.float64], mix: NDArray[np.float64]) -> Contribution:
    difference = without - mix
    count = len(difference)
    error = float(difference.std(ddof=1)) / sqrt(count) if count > 1 else None
    return Contribution(name, weight, float(without.mean()), float(difference.mean()), error)
