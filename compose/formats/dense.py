"""A dense change as factors of full rank: itself beside an identity on its smaller side, exactly."""

from __future__ import annotations

import torch
from torch import Tensor


def whole(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(A, B) with B A = `matrix` (out, in), of rank min(out, in)."""
    out_features, in_features = matrix.shape
    if out_features <= in_features:
        return matrix, torch.eye(out_features, dtype=matrix.dtype, device=matrix.device)
    return torch.eye(in_features, dtype=matrix.dtype, device=matrix.device), matrix
