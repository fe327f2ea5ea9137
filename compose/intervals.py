"""How far a few-shot score can be trusted: the bootstrap interval of its mean over the examples (Efron 1979).

It says what other examples of the same kind would change. It does not say that a mix which was chosen on these examples
is as good on others: that is the gate's question (`gate.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .gate import RESAMPLES, interval


class Scored(Protocol):
    """A trial, as searched or as stored."""

    @property
    def weights(self) -> tuple[float, ...]: ...
    @property
    def example_losses(self) -> tuple[float, ...] | None: ...


@dataclass(frozen=True)
class Interval:
    """The mean loss over the examples, in nats, and its 90 % bootstrap interval."""

    mean: float
    low: float
    high: float


def interval_of(losses: Sequence[float], *, seed: int = 0) -> Interval | None:
    """Of (E,) losses; None of a single example, and where one is not finite."""
    values = np.asarray(losses, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    return Interval(float(values.mean()), *interval(values, drawn))


def few_shot_intervals(
    trials: Iterable[Scored], compared: Mapping[str, Sequence[float]], *, seed: int = 0
) -> dict[str, Interval]:
    """The interval of each of the weights `compared` by the trial that scored them; without those that have none."""
    losses = {trial.weights: trial.example_losses for trial in trials}
    found = {name: losses.get(tuple(weights)) for name, weights in compared.items()}
    intervals = {name: interval_of(one, seed=seed) for name, one in found.items() if one is not None}
    return {name: one for name, one in intervals.items() if one is not None}
