"""The best low-rank approximation of the exact merge, found without ever making the dense delta.

Concatenate (see exact.py), then truncate.py: by Eckart and Young, keeping the k largest singular values is the rank-k
matrix nearest to the exact merge in the Frobenius norm. Same product as PEFT's `svd` of the dense delta. Level: delta.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..adapter import Factors
from ..truncate import truncate_measured
from .exact import exact


def svd(factors: Sequence[Factors | None], weights: Sequence[float], *, rank: int | None = None) -> Factors:
    """Merge one module at `rank` (default: the largest rank of the inputs); never more than the exact rank bound."""
    return svd_measured(factors, weights, rank=rank)[0]


def svd_measured(
    factors: Sequence[Factors | None], weights: Sequence[float], *, rank: int | None = None
) -> tuple[Factors, float]:
    """`svd`, and the squared norm of the exact merge."""
    wanted = rank if rank is not None else max(f.rank for f in factors if f is not None)
    return truncate_measured(exact(factors, weights), wanted)
