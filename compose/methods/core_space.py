"""Core space: write every change in bases that all of them share, merge the small cores, go back. Nothing is lost.

U spans [B_1 ... B_K] and V spans [A_1; ...; A_K] (singular vectors of the stacks, taken from each adapter's canonical
factors so that their gauge does not matter); M_i = U^T (s_i B_i A_i) V is (Kr, Kr), s_i B_i A_i = U M_i V^T. TIES or
DARE act on the M_i; they are not blind to rotations, so this is not TIES of the dense changes. With `sum` it is exact.
Reference: Panariello et al., arXiv 2509.17786. Level: core.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..adapter import Factors
from ..truncate import balanced, canonical
from .consensus import elected, weighted_sum
from .dense_change import present
from .seeding import generator_for
from .sparsify import drop_evenly, keep_largest


def core_space(
    factors: Sequence[Factors | None],
    weights: Sequence[float],
    *,
    inner: str = "ties",
    density: float = 0.5,
    normalize: bool = True,
    seed: int = 0,
) -> Factors:
    """Merge one module; `inner` is ties, dare-linear, dare-ties or sum. The rank is at most the sum of the ranks."""
    used, shares = present(factors, weights)
    plain = [canonical(f) for f in used]
    left = _basis(torch.cat([f.B.double() for f in plain], dim=1))
    right = _basis(torch.cat([f.A.double() for f in plain]).T)
    cores = [(left.T @ f.B.double()) @ (f.A.double() @ right) for f in plain]
    if inner in ("dare-linear", "dare-ties"):
        cores = [drop_evenly(core, density, generator_for(seed, f)) for core, f in zip(cores, used, strict=True)]
    elif inner == "ties":
        cores = [keep_largest(core, density) for core in cores]
    electing = inner in ("ties", "dare-ties")
    merged = elected(cores, shares, normalize=normalize) if electing else weighted_sum(cores, shares)
    u, values, vt = torch.linalg.svd(merged, full_matrices=False)
    a, b = balanced(left @ u, values, vt @ right.T)
    return Factors(a.to(used[0].A.dtype), b.to(used[0].B.dtype))


def _basis(stack: Tensor) -> Tensor:
    """Orthonormal columns that span those of `stack`, by falling singular value, the largest entry of each positive."""
    u, values, _ = torch.linalg.svd(stack, full_matrices=False)
    u = u[:, values > 1e-12 * values[0].clamp(min=1e-300)] if values.numel() and values[0] > 0 else u[:, :1]
    picked = u.gather(0, u.abs().argmax(dim=0, keepdim=True))
    basis: Tensor = u * torch.where(picked < 0, -1.0, 1.0).to(u)
    return basis
