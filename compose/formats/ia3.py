"""IA3: W' = W * l along the outputs (and bias' = bias * l), or along the inputs for feed-forward modules.

Multiplicative, so a kind of its own: not a sum with LoRA. Mixed by l = 1 + sum w_i (l_i - 1), in which w = 0 is the
base and one adapter at w = 1 is itself (PEFT's sum w_i l_i is that only where the weights sum to 1). Reference: Liu et
al., arXiv 2205.05638; PEFT 0.21 tuners/ia3/layer.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..adapter import Multiplier


def ia3(values: Tensor, side: str) -> Multiplier:
    """l of (out, 1) or (1, in) as a vector."""
    return Multiplier(values.flatten(), side)


def mix_multipliers(multipliers: Sequence[Multiplier | None], weights: Sequence[float]) -> Multiplier:
    """l = 1 + sum w (l - 1); an adapter without this module has l = 1."""
    some = next(m for m in multipliers if m is not None)
    total = torch.ones_like(some.values)
    for one, weight in zip(multipliers, weights, strict=True):
        if one is not None:
            total = total + weight * (one.values - 1)
    return Multiplier(total, some.side)
