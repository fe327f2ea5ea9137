"""KnOTS: find one basis for all changes, then merge by TIES inside it.

[d_1 ... d_K] = U S [V_1^T ... V_K^T] with d_i = s_i B_i A_i side by side; V = TIES(V_1^T ... V_K^T); result U S V.
Since the d_i have the column space of [B_1 ... B_K] = Q R, the decomposition is that of the small R [A_1 ... A_K]. At
density 1 and without election the result is sum w_i d_i. Reference: Stoica et al., arXiv 2410.19735. Level: core.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..adapter import Factors
from ..truncate import balanced
from .consensus import elected, weighted_sum
from .dense_change import present
from .exact import exact
from .sparsify import keep_largest


def knots(
    factors: Sequence[Factors | None],
    weights: Sequence[float],
    *,
    density: float = 0.5,
    consensus: str = "elect",
    normalize: bool = True,
) -> Factors:
    """Merge one module; the rank is at most the sum of the ranks."""
    used, shares = present(factors, weights)
    q, r = torch.linalg.qr(torch.cat([f.scaling * f.B.double() for f in used], dim=1))
    ranks = [f.rank for f in used]
    side = torch.cat([part @ f.A.double() for part, f in zip(r.split(ranks, dim=1), used, strict=True)], dim=1)
    u, values, vt = torch.linalg.svd(side, full_matrices=False)
    there = values > 1e-12 * values[0].clamp(min=1e-300)  # directions of no size would take places in the trimming
    u, values, vt = u[:, there], values[there], vt[there]
    if not values.numel():
        return exact(factors, weights)
    thinned = [keep_largest(v, density) for v in vt.split(used[0].in_features, dim=1)]
    merged = weighted_sum(thinned, shares) if consensus == "sum" else elected(thinned, shares, normalize=normalize)
    a, b = balanced(q @ u, values, merged)
    return Factors(a.to(used[0].A.dtype), b.to(used[0].B.dtype))
