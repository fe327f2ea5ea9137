"""How alike two adapters are: the cosine of their deltas, from the factors alone.

<s B A, t D C> = s t sum((B^T D) * (A C^T)) entry by entry, so the dense (out, in) deltas are never made: r x r instead.
"""

from __future__ import annotations

from math import sqrt

from .adapter import Factors, LoraAdapter


def delta_product(one: LoraAdapter, other: LoraAdapter) -> float:
    """The inner product of all deltas, over the modules that both change."""
    shared = one.modules.keys() & other.modules.keys()
    return sum((_product(one.modules[path], other.modules[path]) for path in sorted(shared)), 0.0)


def delta_cosine(one: LoraAdapter, other: LoraAdapter) -> float:
    """From -1 to 1, whatever the strength of either; 0 where one of them changes nothing.

    1 or nearly so: the same change, perhaps at another strength or in other factors; a mix gains nothing from both.
    """
    norms = delta_product(one, one) * delta_product(other, other)
    return max(-1.0, min(1.0, delta_product(one, other) / sqrt(norms))) if norms > 0 else 0.0


def _product(one: Factors, other: Factors) -> float:
    # float64: deltas that are almost the same leave a small difference of large sums
    left = one.B.double().T @ other.B.double()
    right = one.A.double() @ other.A.double().T
    return one.scaling * other.scaling * float((left * right).sum())
