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
    """What the held-out examples say. `kept` is the name of one of `estimates`; the first is the mix that was found,
    the second the base. `rival` is the best of all but the mix, `better` the share of resamples in which the mix has
    a lower loss than it."""

    estimates: tuple[Estimate, ...]
    folds: int
    rival: str
    better: float
    kept: str
    sentence: str


def decide(
    found: str, base: str, held_out: Mapping[str, Floats], *, averages: Sequence[str] = (), folds: int, seed: int = 0
) -> Gate:
    """The gate over `held_out`: finalist -> (E,) losses. `found` names the mix, `base` the model without any.

    What is not ahead of the base in `CONFIDENCE` of the resamples is no gain. The mix is kept when it is one, unless
    something simpler is as surely ahead of the mix. Else the best of the simpler ones is kept that is a gain; of the
    `averages`, equal weights that can do little harm, a lower mean than the base's is enough. Else the base.
    """
    count = len(held_out[found])
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))

    def ahead(one: str, other: str) -> float:
        return float(((held_out[other] - held_out[one])[drawn].mean(axis=1) > 0).mean())

    names = (found, base, *(name for name in held_out if name not in (found, base)))
    means = {name: float(losses.mean()) for name, losses in held_out.items()}
    rival = min(names[1:], key=lambda name: means[name])
    gains = {name: ahead(name, base) for name in names}
    proven = [name for name in names if gains[name] >= (0.5 if name in averages else CONFIDENCE)]
    simpler = min((name for name in proven if name != found), key=lambda name: means[name], default=base)
    kept = found if found in proven and ahead(simpler, found) < CONFIDENCE else simpler
    better = ahead(found, rival)
    return Gate(
        estimates=tuple(_estimate(name, held_out[name], drawn, gains[name]) for name in names),
        folds=folds,
        rival=rival,
        better=better,
        kept=kept,
        sentence=_sentence(found, base, means, gains, kept=kept, folds=folds),
    )


def _estimate(name: str, losses: Floats, drawn: NDArray[np.int64], ahead_of_base: float) -> Estimate:
    low, high = np.percentile(losses[drawn].mean(axis=1), INTERVAL)
    return Estimate(name, float(losses.mean()), float(low), float(high), ahead_of_base)


def _sentence(
    found: str, base: str, means: Mapping[str, float], gains: Mapping[str, float], *, kept: str, folds: int
) -> str:  # fmt: skip
    said = (
        f"On examples that it was not fitted to ({folds} folds) {found} has a loss of {means[found]:.3f}, the base "
        f"{means[base]:.3f}; it is the better one in {gains[found]:.0%} of bootstrap resamples."
    )
    if kept == found:
        return said
    if kept == base:
        return f"{said} That is no evidence of a gain, so {base} was kept."
    return f"{said} {kept} has {means[kept]:.3f}, so {kept} was kept."
