"""TIES: trim each change to its largest entries, elect a sign per entry, merge those that agree.

tau_i = keep_largest(s_i B_i A_i, density); sigma = sign(sum w_i tau_i); result = scale * (mean or sum of the w_i tau_i
with sign sigma). Reference: Yadav et al., arXiv 2306.01708; mergekit `ties`. Level: dense.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..adapter import Factors
from .consensus import elected
from .dense_change import present
from .sparsify import keep_largest


def ties(
    factors: Sequence[Factors | None],
    weights: Sequence[float],
    *,
    density: float = 0.5,
    normalize: bool = True,
    scale: float = 1.0,
) -> Tensor:
    """Merge one module into a dense change (out, in)."""
    used, shares = present(factors, weights)
    return scale * elected([keep_largest(f.delta(), density) for f in used], shares, normalize=normalize)
