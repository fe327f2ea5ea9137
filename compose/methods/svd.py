"""The best low-rank approximation of the exact merge, found without ever making the dense delta.

Concatenate (see exact.py), B* = Q_B R_B and A*^T = Q_A R_A, then a singular value decomposition of the small core
R_B R_A^T = U S V^T; by Eckart and Young, keeping the k largest values is the rank-k matrix nearest to the exact merge
in the Frobenius norm. B = Q_B U sqrt(S), A = sqrt(S) V^T Q_A^T. Same product as PEFT's `svd` of the dense delta.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..adapter import Factors
from .exact import exact


def svd(factors: Sequence[Factors | None], weights: Sequence[float], *, rank: int | None = None) -> Factors:
    """Merge one module at `rank` (default: the largest rank of the inputs); never more than the exact rank bound."""
    wanted = rank if rank is not None else max(f.rank for f in factors if f is not None)
    whole = exact(factors, weights)
    # float64: the two R factors are multiplied, and small singular values would drown in float32's noise
    q_b, r_b = torch.linalg.qr(whole.B.double())
    q_a, r_a = torch.linalg.qr(whole.A.double().T)
    u, values, vt = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    keep = min(wanted, values.numel())
    root = values[:keep].sqrt()
    b, a = q_b @ u[:, :keep], vt[:keep] @ q_a.T
    sign = _signs(b)
    return Factors((root * sign)[:, None].mul(a).to(whole.A.dtype), b.mul(root * sign).to(whole.B.dtype))


def _signs(columns: Tensor) -> Tensor:
    """+-1 per column, so that its largest entry becomes positive: a pair (b, a) and (-b, -a) is one and the same."""
    largest = columns.abs().argmax(dim=0)
    picked = columns[largest, torch.arange(columns.shape[1], device=columns.device)]
    return torch.where(picked < 0, -1.0, 1.0).to(columns.dtype)
