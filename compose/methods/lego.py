"""LoRA-LEGO: take adapters apart into rank-one units, put like units together, build an adapter of the wanted rank.

A unit is a column b of B with its row a of A, from the canonical factors, with sqrt|w s| in both and the sign on b.
Units (b, a) and (-b, -a) are one and the same, so distances and means are taken up to that sign. k-means from the
farthest points; a cluster of n units becomes n mean(b) mean(a)^T. As many clusters as units give the exact merge.
Reference: Zhao et al., arXiv 2409.16167 (clustering of minimal semantic units; the farthest-point start is ours).
Level: factor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..adapter import Factors
from ..truncate import canonical
from .exact import exact

ROUNDS = 50


def lego(factors: Sequence[Factors | None], weights: Sequence[float], *, rank: int | None = None) -> Factors:
    """Merge one module into `rank` clusters (default: the largest rank of the inputs)."""
    wanted = rank if rank is not None else max(f.rank for f in factors if f is not None)
    plain = [None if f is None else canonical(f) for f in factors]
    whole = exact(plain, weights)
    there = (whole.A.norm(dim=1) * whole.B.norm(dim=0)) > 0
    if int(there.sum()) <= wanted:
        return whole
    whole = Factors(whole.A[there], whole.B[:, there])
    out_features = whole.out_features
    # exact() has the weights on A alone: share them out
    balance = (whole.A.norm(dim=1) / whole.B.norm(dim=0)).sqrt()
    units = torch.cat([(whole.B * balance).T, whole.A / balance[:, None]], dim=1).double()
    centres = _cluster(units, wanted)
    b, a = centres[:, :out_features].T, centres[:, out_features:]
    return Factors(a.to(whole.A.dtype), b.to(whole.B.dtype).contiguous())


def _cluster(units: Tensor, count: int) -> Tensor:
    """`count` rows: the mean of each cluster times the root of its size."""
    centres = units[_farthest(units, count)]
    owner = torch.full((units.shape[0],), -1)
    for _ in range(ROUNDS):
        cosines = units @ centres.T
        found = (centres.square().sum(1) - 2 * cosines.abs()).argmin(dim=1)
        signs = torch.where(cosines.gather(1, found[:, None]) < 0, -1.0, 1.0).to(units)
        sums = torch.zeros_like(centres).index_add_(0, found, signs * units)
        sizes = torch.bincount(found, minlength=count).to(units)[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
        if torch.equal(found, owner):
            break
        owner = found
    return centres * sizes.sqrt()


def _farthest(units: Tensor, count: int) -> Tensor:
    """The largest unit, then always the one farthest from all that were picked: no matter in which order they come."""
    norms = units.square().sum(1)
    picked = [int(norms.argmax())]
    distance = torch.full_like(norms, float("inf"))
    while len(picked) < count:
        last = units[picked[-1]]
        distance = torch.minimum(distance, norms + last.square().sum() - 2 * (units @ last).abs())
        distance[picked[-1]] = -1
        picked.append(int(distance.argmax()))
    return torch.tensor(picked)
