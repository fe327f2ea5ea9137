"""Magnitude pruning: sum w_i keep_largest(s_i B_i A_i, density). Reference: PEFT `magnitude_prune` (there on the
factors or the dense change). Level: dense.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..adapter import Factors
from .consensus import weighted_sum
from .dense_change import present
from .sparsify import keep_largest


def magnitude_prune(factors: Sequence[Factors | None], weights: Sequence[float], *, density: float = 0.5) -> Tensor:
    """Merge one module into a dense change (out, in)."""
    used, shares = present(factors, weights)
    return weighted_sum([keep_largest(f.delta(), density) for f in used], shares)
