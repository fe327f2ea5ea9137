"""From losses per example to the one number that a search minimises.

Two settings, both literal: `default_objective` (mean over examples) and `LORAHUB_OBJECTIVE` (what LoRAHub's code does).
Knows nothing of models or optimizers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DEFAULT_L1 = 0.05
"""LoRAHub's factor. There the loss is divided by the number of examples once more, so that here it weighs less."""


def mean_over_examples(example_losses: Floats, token_counts: NDArray[np.int64]) -> Floats:
    """(K, E) -> (K,): every example counts the same, however long; independent of any batching."""
    del token_counts
    return np.asarray(example_losses.mean(axis=1))


def lorahub_mean(example_losses: Floats, token_counts: NDArray[np.int64]) -> Floats:
    """(K, E) -> (K,): token-weighted mean of one batch of all examples, divided once more by their number.

    Reference: LoRAHub, `default_get_loss`: the batch's mean token loss is summed over batches and divided by the number
    of examples; with one batch of all examples that is this.
    """
    return np.asarray((example_losses * token_counts).sum(axis=1) / token_counts.sum() / len(token_counts))


@dataclass(frozen=True)
class Objective:
    """`reduce` gives a candidate's loss; its objective is that plus `l1` times the mean of |w|, plus `prior` times the
    squared distance to the uniform mix, divided by the number of examples: the more there are, the less it weighs. With
    `groups` weights for each adapter that distance is the mean over the groups."""

    reduce: Callable[[Floats, NDArray[np.int64]], Floats]
    l1: float
    prior: float = 0.0
    groups: int = 1

    def penalties(self, weights: Floats, examples: int) -> Floats:
        """(K, N) -> (K,)"""
        spread = ((weights - self.groups / weights.shape[1]) ** 2).sum(axis=1) / self.groups
        return np.asarray(self.l1 * np.abs(weights).mean(axis=1) + self.prior / examples * spread)

    def penalty_gradient(self, weights: Floats, examples: int) -> Floats:
        """(N,) -> (N,): of one row's penalty."""
        apart = (weights - self.groups / len(weights)) / self.groups
        return np.asarray(self.l1 * np.sign(weights) / len(weights) + 2 * self.prior / examples * apart)


def default_objective(l1: float = DEFAULT_L1) -> Objective:
    return Objective(reduce=mean_over_examples, l1=l1)


LORAHUB_OBJECTIVE = Objective(reduce=lorahub_mean, l1=0.05)
