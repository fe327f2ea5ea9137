"""The gauge of factors: (B R^-1, R A) is the same adapter for every invertible R, but element-wise mixes see R.

Adapters that began from the same A pair row k with row k for a reason; others do so by accident. `gauge_affinity` says
which it is, `procrustes` turns factors towards each other without changing any delta.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt

import torch
from torch.nn.functional import normalize, pad

from .adapter import Factors
from .truncate import squared_norm


def gauge_affinity(adapters: Sequence[Mapping[str, Factors]]) -> float | None:
    """Mean cosine between row k of A and row k of A, over all rows of all pairs of adapters that share a module.

    1: the same A; around 0: unrelated, where an element-wise mix is mostly cross terms. `None`: nothing is shared. One
    pass over the adapters: for unit rows u_i, the sum over pairs of u_i u_j is (|sum u_i|^2 - sum |u_i|^2) / 2.
    """
    cosines, pairs = 0.0, 0.0
    for path in {path for modules in adapters for path in modules}:
        rows = [normalize(modules[path].A.double()) for modules in adapters if path in modules]
        rank = max(len(row) for row in rows)
        total, own = torch.zeros(rank, rows[0].shape[1], dtype=torch.float64), torch.zeros(rank, dtype=torch.float64)
        there = torch.zeros(rank, dtype=torch.float64)
        for row in rows:
            total[: len(row)] += row
            own[: len(row)] += row.square().sum(1)
            there[: len(row)] += 1
        cosines += float((total.square().sum(1) - own).sum()) / 2
        pairs += float((there * (there - 1)).sum()) / 2
    return cosines / pairs if pairs else None


def procrustes(factors: Sequence[Factors | None]) -> list[Factors | None]:
    """The same deltas, each turned by an orthogonal R to the largest one: argmin ||B R^T - B0||^2 + ||R A - A0||^2.

    R = U V^T of the singular value decomposition of B0^T B + A0 A^T (orthogonal Procrustes, Schonemann 1966), after
    sqrt|s| went into both factors. All come out at the largest rank, with scaling 1 and the sign of s on B.
    """
    present = [f for f in factors if f is not None]
    rank = max(f.rank for f in present)
    # the reference is the largest change, so that the order of adapters does not matter
    reference = _folded(max(present, key=squared_norm), rank)
    return [None if f is None else _turned(_folded(f, rank), reference) for f in factors]


def _folded(factors: Factors, rank: int) -> Factors:
    root = sqrt(abs(factors.scaling))
    missing = rank - factors.rank
    a, b = pad(root * factors.A, (0, 0, 0, missing)), pad(root * factors.B, (0, missing))
    return replace(factors, A=a, B=b if factors.scaling >= 0 else -b, scaling=1.0)


def _turned(factors: Factors, reference: Factors) -> Factors:
    overlap = reference.B.double().T @ factors.B.double() + reference.A.double() @ factors.A.double().T
    u, _, vt = torch.linalg.svd(overlap)
    turn = (u @ vt).to(factors.A.dtype)
    return replace(factors, A=turn @ factors.A, B=factors.B @ turn.T)
