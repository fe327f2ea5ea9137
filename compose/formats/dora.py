"""DoRA -> a dense change, with the base at hand: W' - W with W' = m / ||W + s B A|| (W + s B A).

The norm is that of each row of (out, in): rows of a linear layer, output channels of a convolution, columns of an
embedding. No low-rank sum says it, so the factors have full rank; truncate afterwards and look at the energy kept.
Reference: Liu et al., arXiv 2402.09353; PEFT 0.21 tuners/lora/dora.py.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..adapter import Factors
from .dense import whole


def dora(factors: Factors, magnitude: Tensor, weight: Tensor) -> Factors:
    """`factors` (out, in) before the rescaling, `magnitude` of out values, `weight` (out, in)."""
    changed = weight + factors.delta()
    norm = changed.norm(dim=1)
    scale = magnitude.flatten() / norm.where(norm > 0, norm.new_ones(()))
    a, b = whole(scale[:, None] * changed - weight)
    return replace(factors, A=a, B=b, scaling=1.0)
