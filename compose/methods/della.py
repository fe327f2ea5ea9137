"""DELLA: drop entries at random, small ones more often (by rank within their row), rescale, then elect signs or add up.

p = density +- epsilon by rank, tau_i = mask_i * (s_i B_i A_i) / p. Reference: Deep et al., arXiv 2406.11617; mergekit
`della` (elect) and `della_linear` (sum). Masks: see seeding.py. Level: dense.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..adapter import Factors
from ..errors import BadMethod
from .consensus import elected, weighted_sum
from .dense_change import present
from .seeding import generator_for
from .sparsify import drop_by_rank


def della(
    factors: Sequence[Factors | None],
    weights: Sequence[float],
    *,
    density: float = 0.5,
    epsilon: float = 0.1,
    consensus: str = "elect",
    normalize: bool = True,
    seed: int = 0,
) -> Tensor:
    """Merge one module into a dense change (out, in); density +- epsilon must stay within 0 (excluded) and 1."""
    if not 0 < density - epsilon <= density + epsilon <= 1:
        raise BadMethod(
            f"method 'della': density {density:g} with epsilon {epsilon:g} leaves probabilities outside of 0 and 1",
            remedy="take a smaller epsilon",
        )
    used, shares = present(factors, weights)
    thinned = [drop_by_rank(f.delta(), density, epsilon, generator_for(seed, f)) for f in used]
    return weighted_sum(thinned, shares) if consensus == "sum" else elected(thinned, shares, normalize=normalize)
