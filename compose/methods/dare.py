"""DARE: drop entries of each change at random and rescale the rest, then add up (linear) or elect signs (ties).

tau_i = mask_i * (s_i B_i A_i) / density with mask_i of Bernoulli(density): the expectation is the change itself.
Reference: Yu et al., arXiv 2311.03099. Masks: see seeding.py. Level: dense.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..adapter import Factors
from .consensus import elected, weighted_sum
from .dense_change import present
from .seeding import generator_for
from .sparsify import drop_evenly


def dare_linear(
    factors: Sequence[Factors | None], weights: Sequence[float], *, density: float = 0.5, seed: int = 0
) -> Tensor:
    """sum w_i tau_i, dense (out, in)."""
    used, shares = present(factors, weights)
    return weighted_sum([drop_evenly(f.delta(), density, generator_for(seed, f)) for f in used], shares)


def dare_ties(
    factors: Sequence[Factors | None],
    weights: Sequence[float],
    *,
    density: float = 0.5,
    normalize: bool = True,
    seed: int = 0,
) -> Tensor:
    """Sign election over the tau_i, dense (out, in)."""
    used, shares = present(factors, weights)
    thinned = [drop_evenly(f.delta(), density, generator_for(seed, f)) for f in used]
    return elected(thinned, shares, normalize=normalize)
