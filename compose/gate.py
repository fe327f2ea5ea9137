"""Is the mix that was found better than what was there before? Asked of examples that it was not fitted to.

Every finalist has a loss for each example, held out: made without looking at that example (k-fold cross-validation).
The finalists are compared on the same examples, so that easy and hard ones cancel, and the comparison is repeated on
bootstrap resamples of the examples (Efron 1979). Pure functions of arrays; nothing is scored here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.5
"""The share of resamples in which the mix must be ahead of what it replaces."""
RESAMPLES = 2000
INTERVAL = (5, 95)
"""In percent: the ends of a 90 % interval."""


@dataclass(frozen=True)
class Estimate:
    """A finalist's mean loss on held-out examples, with the 90 % bootstrap interval of that mean (nats)."""

    name: str
    loss: float
    low: float
    high: float


@dataclass(frozen=True)
class Gate:
    """What the held-out examples say. `kept` is the name of one of `estimates`, the first of which is the found mix.

    `rival` is the best of the others, `better` the share of resamples in which the mix has a lower loss than it.
    """

    estimates: tuple[Estimate, ...]
    folds: int
    rival: str
    better: float
    kept: str
    sentence: str


def decide(found: str, held_out: Mapping[str, Floats], *, folds: int, seed: int = 0) -> Gate:
    """The gate over `held_out`: finalist -> (E,) losses. `found` is the mix; the others are what it has to beat.

    The mix is kept when its mean is the lowest and it is ahead of the best of the others in at least `CONFIDENCE` of
    the resamples; otherwise that one is kept.
    """
    count = len(held_out[found])
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    estimates = {name: _estimate(name, losses, drawn) for name, losses in held_out.items()}
    rival = min((name for name in held_out if name != found), key=lambda name: estimates[name].loss)
    ahead = (held_out[rival] - held_out[found])[drawn].mean(axis=1)
    better = float((ahead > 0).mean())
    kept = found if better >= CONFIDENCE and estimates[found].loss < estimates[rival].loss else rival
    return Gate(
        estimates=tuple(estimates[name] for name in (found, *(n for n in held_out if n != found))),
        folds=folds,
        rival=rival,
        better=better,
        kept=kept,
        sentence=_sentence(found, estimates, rival=rival, better=better, kept=kept, folds=folds),
    )


def _estimate(name: str, losses: Floats, drawn: NDArray[np.int64]) -> Estimate:
    low, high = np.percentile(losses[drawn].mean(axis=1), INTERVAL)
    return Estimate(name, float(losses.mean()), float(low), float(high))


def _sentence(
    found: str, estimates: Mapping[str, Estimate], *, rival: str, better: float, kept: str, folds: int
) -> str:
    mine, other = estimates[found].loss, estimates[rival].loss
    compared = (
        f"On examples that it was not fitted to ({folds} folds) {found} has a loss of {mine:.3f}, {rival} {other:.3f}; "
        f"it is the better one in {better:.0%} of bootstrap resamples."
    )
    return compared if kept == found else f"{compared} That is no evidence of a gain, so {rival} was kept."
