"""Is the mix that was found better than what was there before? Asked of examples that it was not fitted to.

Every finalist has a loss for each example, held out: made without looking at that example (k-fold cross-validation).
The finalists are compared on the same examples, so that easy and hard ones cancel, and the comparison is repeated on
bootstrap resamples of the examples (Efron 1979). Pure functions of arrays; nothing is scored here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.9
"""The share of resamples in which something must be ahead of the base, to be evidence of a gain."""
MORE_LIKELY = 0.5
"""The same for what can do little harm."""
RESAMPLES = 2000
INTERVAL = (5, 95)
"""In percent: the ends of a 90 % interval."""


@dataclass(frozen=True)
class Estimate:
    """A finalist's mean loss on held-out examples, with the 90 % bootstrap interval of that mean (nats), and the share
    of resamples in which it is lower than the base's."""

    name: str
    loss: float
    low: float
    high: float
    ahead_of_base: float


@dataclass(frozen=True)
class Gate:
    """What the held-out examples say. `kept` names one of the `estimates`: mixes, base, then what else there is."""

    estimates: tuple[Estimate, ...]
    folds: int
    kept: str
    sentence: str


def decide(
    mixes: Sequence[str], base: str, held_out: Mapping[str, Floats], *, safe: Sequence[str] = (), folds: int,
    seed: int = 0,
) -> Gate:  # fmt: skip
    """The gate over `held_out`: finalist -> (E,) losses. `mixes` names those that were found, `base` the bare model.

    To count as a gain, a finalist must be ahead of the base in `CONFIDENCE` of the resamples, one of the `safe` ones,
    which are never far from the base, in `MORE_LIKELY`. The best mix that is a gain is kept, unless something simpler
    that is one is ahead of that mix in `CONFIDENCE` of the resamples. Without such a mix the best of the simpler ones
    is kept that is a gain, without that the base.
    """
    count = len(held_out[base])
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))

    def ahead(one: str, other: str) -> float:
        return float(((held_out[other] - held_out[one])[drawn].mean(axis=1) > 0).mean())

    names = (*mixes, base, *(name for name in held_out if name not in (*mixes, base)))
    means = {name: float(held_out[name].mean()) for name in names}
    gains = {name: ahead(name, base) for name in names}
    proven = [
        name
        for name in names
        if means[name] < means[base] and gains[name] >= (MORE_LIKELY if name in safe else CONFIDENCE)
    ]
    simpler = min((name for name in proven if name not in mixes), key=lambda name: means[name], default=base)
    kept = simpler
    for name in mixes:
        if name in proven and (kept not in mixes or (means[name] < means[kept] and ahead(name, kept) >= CONFIDENCE)):
            kept = name
    if kept != simpler and ahead(simpler, kept) >= CONFIDENCE:
        kept = simpler
    return Gate(
        estimates=tuple(_estimate(name, held_out[name], drawn, gains[name]) for name in names),
        folds=folds,
        kept=kept,
        sentence=_sentence(kept, min(mixes, key=lambda name: means[name]), base, means, gains, folds=folds),
    )


def _estimate(name: str, losses: Floats, drawn: NDArray[np.int64], ahead_of_base: float) -> Estimate:
    low, high = np.percentile(losses[drawn].mean(axis=1), INTERVAL)
    return Estimate(name, float(losses.mean()), float(low), float(high), ahead_of_base)


def _sentence(
    kept: str, mix: str, base: str, means: Mapping[str, float], gains: Mapping[str, float], *, folds: int
) -> str:
    """`mix`: the one to speak of when none was kept."""
    told = mix if kept == base else kept
    said = (
        f"On examples that it was not fitted to ({folds} folds) {told} has a loss of {means[told]:.3f}, {base} "
        f"{means[base]:.3f}; it is ahead in {gains[told]:.0%} of bootstrap resamples"
    )
    return f"{said}. That is no evidence of a gain, so {base} was kept." if kept == base else f"{said}, and was kept."
