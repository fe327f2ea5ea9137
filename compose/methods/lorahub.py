"""Element-wise merge: A* = sum w_i A_i, B* = sum w_i B_i. What LoRAHub does, and this product's default.

Reference: Huang et al., "LoraHub: Efficient Cross-Task Generalization via Dynamic LoRA Composition" (arXiv 2307.13269);
its code multiplies every tensor of the adapters by w. The delta is quadratic in w, so that f(w) = f(-w) and one adapter
at weight w counts w**2.

How the scalings s_i of the adapters come in (`fold`):
- `balanced`: A_i and B_i are multiplied by sqrt|s_i| first, the sign of s_i goes on B. Symmetric in the adapters.
- `lorahub-compat`: no fold; the scaling of the first adapter multiplies the product, as in the reference code. Only
  where all adapters have the same modules, ranks and scalings; then both folds give the same delta.

With `align=procrustes` the factors are turned towards each other first (gauge.py), which changes no adapter by itself.
Level: factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, sqrt

from ..adapter import Factors
from ..errors import IncompatibleAdapters
from ..gauge import procrustes
from .factor_sum import sum_factors

BALANCED = "balanced"
COMPAT = "lorahub-compat"
RAW, PROCRUSTES = "none", "procrustes"
ALIGNMENTS = (RAW, PROCRUSTES)


def lorahub(
    factors: Sequence[Factors | None], weights: Sequence[float], *, fold: str = BALANCED, align: str = RAW
) -> Factors:
    """Merge one module. `fold` and `align` are as above; the result has scaling 1 and the largest rank."""
    if align == PROCRUSTES:
        factors = procrustes(factors)
    if fold == COMPAT:
        scaling = _one_scaling(factors)
        merged = sum_factors(factors, weights, weights)
        return Factors(merged.A, scaling * merged.B)
    roots = [0.0 if f is None else sqrt(abs(f.scaling)) for f in factors]
    signs = [1.0 if f is None else copysign(1.0, f.scaling) for f in factors]
    a = [w * root for w, root in zip(weights, roots, strict=True)]
    b = [a_i * sign for a_i, sign in zip(a, signs, strict=True)]
    return sum_factors(factors, a, b)


def _one_scaling(factors: Sequence[Factors | None]) -> float:
    """The scaling that all adapters share; merge() has refused by name before what is refused by number here."""
    first = factors[0]
    for number, one in enumerate(factors, 1):
        if first is None or one is None:
            raise IncompatibleAdapters(
                f"fold {COMPAT!r} needs the module in every adapter; adapter {number if first else 1} lacks it",
                remedy=f"use fold={BALANCED!r}",
            )
        if (one.rank, one.scaling) != (first.rank, first.scaling):
            raise IncompatibleAdapters(
                f"fold {COMPAT!r} needs one rank and scaling; adapter {number} has rank {one.rank}, "
                f"scaling {one.scaling:g}, the first has rank {first.rank}, scaling {first.scaling:g}",
                remedy=f"use fold={BALANCED!r}",
            )
    assert first is not None  # the loop above ran at least once
    return first.scaling
