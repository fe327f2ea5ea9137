"""Ways to put several changes of one shape together into one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def weighted_sum(deltas: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum w_i delta_i."""
    total = torch.zeros_like(deltas[0])
    for delta, weight in zip(deltas, weights, strict=True):
        total = total.add(delta, alpha=weight)
    return total


def elected(deltas: Sequence[Tensor], weights: Sequence[float], *, normalize: bool) -> Tensor:
    """TIES: each entry's sign is that of sum w_i delta_i, and only the w_i delta_i of that sign are added up.

    With `normalize` the sum is divided by the sum of |w_i| over those that were added: their weighted mean. Yadav et
    al., arXiv 2306.01708; election on weighted changes, as in mergekit, so that a negative weight votes against.
    """
    sign = weighted_sum(deltas, weights).sign()
    total, votes = torch.zeros_like(deltas[0]), torch.zeros_like(deltas[0])
    for delta, weight in zip(deltas, weights, strict=True):
        agrees = ((weight * delta).sign() == sign) & (sign != 0)
        total += weight * delta * agrees
        votes += abs(weight) * agrees
    return total / votes.where(votes > 0, torch.ones_like(votes)) if normalize else total
