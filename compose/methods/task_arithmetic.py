"""Task arithmetic: W + scale * sum w_i (s_i B_i A_i), here without W: fuse the result into it.

Reference: Ilharco et al., arXiv 2212.04089; mergekit `task_arithmetic` with normalize off. Exact, by concatenation;
a negative weight takes a task away. Level: delta.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..adapter import Factors
from .exact import exact


def task_arithmetic(factors: Sequence[Factors | None], weights: Sequence[float], *, scale: float = 1.0) -> Factors:
    """Merge one module; `scale` multiplies the whole."""
    return exact(factors, [scale * weight for weight in weights])
