"""PEFT's `linear` combination, as an oracle: A* = sum sign(c_i) sqrt|c_i| A_i, B* = sum sqrt|c_i| B_i, c_i = w_i s_i.

Reference: `add_weighted_adapter(combination_type="linear")` of PEFT 0.21. One adapter comes out right (w s B A);
several carry cross terms, and K equal adapters at 1/K each come out K times too large. Kept to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, sqrt

from ..adapter import Factors
from .factor_sum import sum_factors


def peft_linear(factors: Sequence[Factors | None], weights: Sequence[float]) -> Factors:
    """Merge one module; the result has scaling 1 and the largest rank (PEFT refuses different ranks)."""
    shares = [0.0 if f is None else w * f.scaling for f, w in zip(factors, weights, strict=True)]
    b = [sqrt(abs(share)) for share in shares]
    a = [copysign(root, share) for root, share in zip(b, shares, strict=True)]
    return sum_factors(factors, a, b)
