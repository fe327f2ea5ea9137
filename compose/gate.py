"""Is the mix that was found better than what was there before? Asked of examples that it was not fitted to.

Every finalist has a loss for each example, held out: made without looking at that example (k-fold cross-validation).
The finalists are compared on the same examples, so that easy and hard ones cancel, and the comparison is repeated on
bootstrap resamples of the examples (Efron 1979). Pure functions of arrays; nothing is scored here.

Where a search could not be repeated without some of the examples, its estimate is hopeful: the best of its trials was
asked for with all examples in view. By chance alone the best direction among m weights is ahead by as many standard
errors, its own, as the root of Hotelling's T squared (Annals of Mathematical Statistics 2, 1931) for E examples:
m (E - 1) / (E - m) times the quantile of the F distribution with m and E - m degrees of freedom. A hopeful mix must be
ahead by more than that. With m close to E this goes beyond all that is found, as the direction that would be ahead so
far is not what an optimizer of the mean looks for; so the bound is never more than twice Scheffé's (Biometrika 40,
1953), which takes the standard error as known: m times the quantile with m and E - 1 degrees of freedom. With as many
weights as examples, or more, nothing is evidence.

The bound is against the base alone. Where one adapter helps and the others are noise, noise around it is still kept:
with a single of 0.23 nats Cobyla's mixes in 9 of 12 worlds (8 adapters, 16 examples, 40 evaluations; 0.06 nats worse
than the single) and in 11 (15, 32, 150; 0.1 worse), adam's in 11 (0.02 worse). The same bound against the simpler one
lets none or 1 through, but on the demo it refuses half of what Cobyla and adam find rightly.

Measured with Cobyla on 12 worlds of noise each, mixes kept by Hotelling's bound and by Scheffé's own. 8 weights, 16
examples: 40 evaluations 0 and 1, 150 evaluations 0 and 2. 15 weights, 150 evaluations: 16 examples 0 and 7, 32 examples
1 and 3. 18 weights, 64 examples: 0 and 0. Noise was ahead by at most 10.8 standard errors (15 weights, 16 examples, 150
evaluations: the bound is 10.9); on the demo's tasks adam's mixes are by 10.5 to 62.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.9
"""The share of resamples in which something must be ahead of the base, to be evidence of a gain; of both bounds too."""
LIKELY = 0.7
"""The same for what can do little harm."""
BOLDER = 0.75
"""The same for a bold mix to be kept in place of a cautious one that is a gain already."""
RESAMPLES = 2000
INTERVAL = (5, 95)
"""In percent: the ends of a 90 % interval."""


@dataclass(frozen=True)
class Estimate:
    """A finalist's mean loss on held-out examples, with the 90 % bootstrap interval of that mean (nats), and the share
    of resamples in which it is lower than the base's. `hopeful`: trials were asked for with all examples in view."""

    name: str
    loss: float
    low: float
    high: float
    ahead_of_base: float
    hopeful: bool = False


@dataclass(frozen=True)
class Gate:
    """What the held-out examples say. `kept` names one of the `estimates`: mixes, base, then what else there is."""

    estimates: tuple[Estimate, ...]
    folds: int
    kept: str
    sentence: str
    mixes: int = 0
    """How many of the estimates, the first ones, are of mixes that were found."""

    @property
    def better_than_kept(self) -> str | None:
        """The best of the mixes, where it has a lower loss than what was kept all the same."""
        kept = next(one for one in self.estimates if one.name == self.kept)
        better = [one for one in self.estimates[: self.mixes] if one.loss < kept.loss]
        return min(better, key=lambda one: one.loss).name if better else None

    @property
    def kept_is_hopeful(self) -> bool:
        return any(one.hopeful for one in self.estimates if one.name == self.kept)


def decide(
    mixes: Sequence[str], base: str, held_out: Mapping[str, Floats], *, safe: Sequence[str] = (),
    hopeful: Mapping[str, int] | None = None, counted: str = "weight", folds: int, seed: int = 0,
) -> Gate:  # fmt: skip
    """The gate over `held_out`: finalist -> (E,) losses. `mixes` names those that were found, if any was, `base` the
    bare model, `hopeful` the mixes with a hopeful estimate and how many weights were searched for each (`counted`: what
    they are called).

    To count as a gain, a finalist must be ahead of the base in `CONFIDENCE` of the resamples, one of the `safe` ones,
    which are never far from the base, in `LIKELY`. The first of the mixes that is a gain is kept, or a later, bolder
    one that is ahead of it in `BOLDER`, unless something simpler is a gain too and is ahead of that mix in
    `CONFIDENCE`. Without such a mix the best of the simpler ones is kept that is a gain, without that the base. A
    hopeful mix must besides be ahead of the base by more than Hotelling's bound, and, once that much is known, of the
    simpler one and of a mix before it in `CONFIDENCE` of the resamples.
    """
    count = len(held_out[base])
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    searched = hopeful or {}

    def ahead(one: str, other: str) -> float:
        return float(((held_out[other] - held_out[one])[drawn].mean(axis=1) > 0).mean())

    def beyond_chance(one: str) -> bool:
        return one not in searched or exceeds_chance(held_out[base] - held_out[one], searched[one], CONFIDENCE)

    names = (*mixes, base, *(name for name in held_out if name not in (*mixes, base)))
    means = {name: float(held_out[name].mean()) for name in names}
    gains = {name: ahead(name, base) for name in names}
    proven = [
        name
        for name in names
        if means[name] < means[base] and gains[name] >= (LIKELY if name in safe else CONFIDENCE) and beyond_chance(name)
    ]
    simpler = min((name for name in proven if name not in mixes), key=lambda name: means[name], default=base)
    kept = simpler
    for name in mixes:
        enough = CONFIDENCE if name in searched else BOLDER
        bolder = kept not in mixes or (means[name] < means[kept] and ahead(name, kept) >= enough)
        if name in proven and bolder and (name not in searched or ahead(name, simpler) >= CONFIDENCE):
            kept = name
    if kept != simpler and ahead(simpler, kept) >= CONFIDENCE:
        kept = simpler
    told = min(mixes or names[1:] or names, key=lambda name: means[name]) if kept == base else kept
    return Gate(
        estimates=tuple(
            _estimate(name, held_out[name], drawn, gains[name], hopeful=name in searched) for name in names
        ),
        folds=folds,
        kept=kept,
        mixes=len(mixes),
        sentence=_sentence(kept, told, base, means, gains, folds=folds, searched=searched.get(told), counted=counted),
    )


def exceeds_chance(gains: Floats, weights: int, quantile: float) -> bool:
    """Is the mean of (E,) gains more than the best of all directions among `weights` weights has by chance, in such a
    share of cases? Never with as many weights as examples."""
    from scipy.special import fdtri

    count = len(gains)
    if weights >= count:  # some direction through any noise is ahead on every example
        return False
    error = float(gains.std(ddof=1)) / np.sqrt(count)
    hotelling = weights * (count - 1) / (count - weights) * float(fdtri(weights, count - weights, quantile))
    scheffe = weights * float(fdtri(weights, count - 1, quantile))
    return bool(gains.mean() > np.sqrt(min(hotelling, 4 * scheffe)) * error)


def interval(losses: Floats, drawn: NDArray[np.int64]) -> tuple[float, float]:
    """The 90 % bootstrap interval of the mean of (E,) losses, from (R, E) drawn examples."""
    low, high = np.percentile(losses[drawn].mean(axis=1), INTERVAL)
    return float(low), float(high)


def _estimate(name: str, losses: Floats, drawn: NDArray[np.int64], ahead_of_base: float, *, hopeful: bool) -> Estimate:
    return Estimate(name, float(losses.mean()), *interval(losses, drawn), ahead_of_base, hopeful)


def _sentence(
    kept: str, told: str, base: str, means: Mapping[str, float], gains: Mapping[str, float], *, folds: int,
    searched: int | None, counted: str,
) -> str:  # fmt: skip
    """Of the finalist `told`; `searched` weights, if its estimate is hopeful."""
    how = (
        f"({folds} folds)" if searched is None else f"({folds} folds; hopeful, as its trials were asked for with them)"
    )
    said = (
        f"On examples that it was not {'fitted to' if searched is None else 'chosen by'} {how} {told} has a loss of "
        f"{means[told]:.3f}, {base} {means[base]:.3f}; it is ahead in {gains[told]:.0%} of bootstrap resamples"
    )
    if kept != base:
        return f"{said}, and was kept."
    what = f"1 {counted}" if searched == 1 else f"{searched} {counted}s"
    chance = f", for a search of {what}," if searched is not None and means[told] < means[base] else ""
    return f"{said}. That is{chance} no evidence of a gain, so {base} was kept."
