"""Whether two ways to compute the same logits give the same, but for rounding."""

from __future__ import annotations

import torch
from torch import Tensor


def agree(found: Tensor, truth: Tensor) -> bool:
    """Equal but for rounding: a wrong position or a lost mask changes far more than this."""
    if found.shape != truth.shape:
        return False
    scale = float(truth.abs().max()) or 1.0
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4}.get(truth.dtype, 0.05)
    return float((found - truth).abs().max()) <= tolerance * scale
