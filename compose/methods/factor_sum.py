"""Sums of factors, the shared arithmetic of the element-wise methods, and zero padding of ranks.

With A* = sum a_i A_i and B* = sum b_i B_i the product is B* A* = sum a_i b_i B_i A_i + sum_{i != j} b_i a_j B_i A_j: an
element-wise merge holds cross terms between adapters. Which method it is depends on the choice of a and b only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn.functional import pad

from ..adapter import Factors


def pad_rank(factors: Factors, rank: int) -> Factors:
    """The same delta at a higher rank: zero rows under A (rank, in), zero columns beside B (out, rank)."""
    missing = rank - factors.rank
    if missing == 0:
        return factors
    return replace(factors, A=pad(factors.A, (0, 0, 0, missing)), B=pad(factors.B, (0, missing)))


def sum_factors(factors: Sequence[Factors | None], a: Sequence[float], b: Sequence[float]) -> Factors:
    """A* = sum a_i A_i and B* = sum b_i B_i at the largest rank; `None` adds nothing. The scalings are not used.

    At least one of `factors` must be there. Row k is paired with row k, whatever the ranks.
    """
    rank = max(f.rank for f in factors if f is not None)
    first = next(f for f in factors if f is not None)
    sum_a = torch.zeros(rank, first.in_features, dtype=first.A.dtype, device=first.A.device)
    sum_b = torch.zeros(first.out_features, rank, dtype=first.B.dtype, device=first.B.device)
    for one, a_i, b_i in zip(factors, a, b, strict=True):
        if one is not None:
            sum_a[: one.rank].add_(one.A, alpha=a_i)
            sum_b[:, : one.rank].add_(one.B, alpha=b_i)
    return Factors(sum_a, sum_b)
