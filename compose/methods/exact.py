"""Exact merge by concatenation: B* A* = sum w_i s_i B_i A_i, without loss, at rank sum r_i.

A* = [w_1 s_1 A_1; w_2 s_2 A_2; ...] and B* = [B_1, B_2, ...]. Known as `cat` in PEFT and as CAT in Prabhakar et al.,
"LoRA Soups" (arXiv 2410.13025). Linear in the weights: no cross terms, and a negative weight subtracts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..adapter import Factors


def exact(factors: Sequence[Factors | None], weights: Sequence[float]) -> Factors:
    """Merge one module. An adapter with weight 0 takes no rank; where nothing is left the result is zero at rank 1."""
    parts = [(f, w * f.scaling) for f, w in zip(factors, weights, strict=True) if f is not None and w * f.scaling != 0]
    if not parts:
        some = next(f for f in factors if f is not None)
        return Factors(torch.zeros_like(some.A[:1]), torch.zeros_like(some.B[:, :1]))
    first = parts[0][0]
    stacked = first.A.new_empty(sum(f.rank for f, _ in parts), first.in_features)
    start = 0
    for f, c in parts:  # scaled in one pass into its place: merging is bound by memory
        torch.mul(f.A, c, out=stacked[start : start + f.rank])
        start += f.rank
    return Factors(stacked, torch.cat([f.B for f, _ in parts], dim=1))
