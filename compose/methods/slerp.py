"""Slerp: from one change to the other along the arc between them, not the chord.

With T = w_1 + w_2, t = w_2 / T and the angle Omega between the changes: T (sin((1-t) Omega) d_1 + sin(t Omega) d_2) /
sin(Omega). Weights (1-t, t) are the textbook form; other sums scale it. Nearly parallel changes, and one that is zero,
are mixed along the chord. The angle comes from small matrices, so nothing dense is made. Reference: Shoemake 1985;
mergekit `slerp`. Level: delta.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import acos, sin, sqrt

from ..adapter import Factors
from ..errors import BadMethod
from ..truncate import inner_product
from .exact import exact

PARALLEL = 1 - 1e-9
"""|cosine| from which the arc is taken for the chord."""


def slerp(factors: Sequence[Factors | None], weights: Sequence[float]) -> Factors:
    """Merge one module of two adapters with weights from 0; one adapter alone is only scaled."""
    if len(factors) > 2 or any(weight < 0 for weight in weights):
        raise BadMethod(
            f"method 'slerp' goes between two adapters with weights from 0, not {len(factors)} with {list(weights)}",
            remedy="merge two at a time, or use exact",
        )
    total = sum(weights)
    if len(factors) == 1 or total == 0 or None in factors:
        return exact(factors, weights)
    one, other = factors
    assert one is not None and other is not None  # said above, for mypy
    lengths = sqrt(inner_product(one, one) * inner_product(other, other))
    cosine = inner_product(one, other) / lengths if lengths > 0 else 1.0
    if abs(cosine) > PARALLEL:
        return exact(factors, weights)
    angle, t = acos(cosine), weights[1] / total
    return exact(factors, [total * sin((1 - t) * angle) / sin(angle), total * sin(t * angle) / sin(angle)])
