"""Model breadcrumbs: leave out the largest entries of each change (outliers) and the smallest (noise), then put
together.

tau_i = keep_middle(s_i B_i A_i, density, outliers). Reference: Davari and Belilovsky, arXiv 2312.06795; mergekit
`breadcrumbs` (sum) and `breadcrumbs_ties` (elect). Level: dense.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..adapter import Factors
from .consensus import elected, weighted_sum
from .dense_change import present
from .sparsify import keep_middle


def breadcrumbs(
    factors: Sequence[Factors | None],
    weights: Sequence[float],
    *,
    density: float = 0.9,
    outliers: float = 0.01,
    consensus: str = "sum",
    normalize: bool = True,
) -> Tensor:
    """Merge one module into a dense change (out, in)."""
    used, shares = present(factors, weights)
    thinned = [keep_middle(f.delta(), density, outliers) for f in used]
    return weighted_sum(thinned, shares) if consensus == "sum" else elected(thinned, shares, normalize=normalize)
