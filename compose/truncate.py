"""The best approximation of given factors at a smaller rank, found without ever making the dense delta.

B = Q_B R_B and A^T = Q_A R_A, then a singular value decomposition of the small core R_B R_A^T = U S V^T; by Eckart and
Young (1936) keeping the k largest values is the rank-k matrix nearest in the Frobenius norm. B' = Q_B U sqrt(S),
A' = sqrt(S) V^T Q_A^T: a canonical form too, which no change of gauge (B R^-1, R A) alters.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .adapter import Factors

FULL_SVD = 768
"""Dense matrices with a side up to this are decomposed whole; larger ones by subspace iteration."""

BLOCK = 1024
"""Rows of a dense change that are in memory at a time."""


def truncate(factors: Factors, rank: int) -> Factors:
    """The same change at `rank` or the rank bound of the factors, whichever is less; scaling 1."""
    return truncate_measured(factors, rank)[0]


def truncate_measured(factors: Factors, rank: int) -> tuple[Factors, float]:
    """`truncate`, and the squared norm of the change before: the sum of the squares of all its singular values."""
    # float64: the two R factors are multiplied, and small singular values would drown in float32's noise
    q_b, r_b = torch.linalg.qr(factors.scaling * factors.B.double())
    q_a, r_a = torch.linalg.qr(factors.A.double().T)
    u, values, vt = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    keep = min(rank, values.numel())
    a, b = balanced(q_b @ u[:, :keep], values[:keep], vt[:keep] @ q_a.T)
    cut = replace(factors, A=a.to(factors.A.dtype), B=b.to(factors.B.dtype), scaling=1.0)
    return cut, values.square().sum().item()


def largest_difference(one: Factors, other: Factors) -> float:
    """The largest |entry| of the difference of two changes of one shape, in float32, found in blocks of rows."""
    left = torch.cat([one.scaling * one.B, -other.scaling * other.B], dim=1).float()
    right = torch.cat([one.A, other.A]).float()
    return max((float((rows @ right).abs().max()) for rows in torch.split(left, BLOCK)), default=0.0)


def canonical(factors: Factors) -> Factors:
    """The same change in the form that depends on the change alone, not on how it was factored."""
    return truncate(factors, factors.rank)


def factor_dense(matrix: Tensor, rank: int) -> Factors:
    """The best factors of rank `rank` of a dense matrix (out, in).

    A large matrix at a small rank is searched by block subspace iteration from a fixed start (Halko, Martinsson, Tropp,
    arXiv 0909.4061), whose error here is far below what truncation itself leaves.
    """
    smaller = min(matrix.shape)
    keep = min(rank, smaller)
    if smaller <= FULL_SVD or keep * 4 > smaller:
        u, values, vt = torch.linalg.svd(matrix, full_matrices=False)
    else:
        start = torch.randn(matrix.shape[1], keep + 16, generator=torch.Generator().manual_seed(0)).to(matrix)
        basis = torch.linalg.qr(matrix @ start).Q
        for _ in range(6):
            basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis).Q).Q
        u, values, vt = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
        u = basis @ u
    return Factors(*balanced(u[:, :keep], values[:keep], vt[:keep]))


def balanced(u: Tensor, values: Tensor, vt: Tensor) -> tuple[Tensor, Tensor]:
    """A = sqrt(S) V^T and B = U sqrt(S), with the largest entry of each column of B made positive."""
    sign = _signs(u)
    root = values.clamp(min=0).sqrt() * sign
    return root[:, None] * vt, u * root


def _signs(columns: Tensor) -> Tensor:
    """+-1 per column, so that its largest entry becomes positive: a pair (b, a) and (-b, -a) is one and the same."""
    largest = columns.abs().argmax(dim=0)
    picked = columns[largest, torch.arange(columns.shape[1], device=columns.device)]
    return torch.where(picked < 0, -1.0, 1.0).to(columns.dtype)


def squared_norm(factors: Factors) -> float:
    """||s B A||^2 (Frobenius) by the small matrices B^T B and A A^T, in float64, without the dense delta."""
    return inner_product(factors, factors)


def inner_product(one: Factors, other: Factors) -> float:
    """<s B A, s' B' A'> (Frobenius), likewise."""
    grams = (one.B.double().T @ other.B.double()) * (one.A.double() @ other.A.double().T)
    return float(grams.sum()) * one.scaling * other.scaling
