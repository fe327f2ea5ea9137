"""From losses per example to the one number that a search minimises.

Two settings, both literal: `default_objective` (mean over examples) and `LORAHUB_OBJECTIVE` (what LoRAHub's code does).
Knows nothing of models or optimizers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .prior import Prior

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
    """`reduce` gives a candidate's loss; its objective is that plus `l1` times the mean of |w|, plus the penalty of
    the `prior` divided by the number of examples: the more there are, the less it weighs."""

    reduce: Callable[[Floats, NDArray[np.int64]], Floats]
    l1: float
    prior: Prior | None = None

    def penalties(self, weights: Floats, examples: int) -> Floats:
        """(K, N) -> (K,)"""
        spread = np.asarray(self.l1 * np.abs(weights).mean(axis=1))
        return spread if self.prior is None else spread + self.prior.penalties(weights) / examples

    def penalty_gradient(self, weights: Floats, examples: int) -> Floats:
        """(N,) -> (N,): of one row's penalty."""
        slope = np.asarray(self.l1 * np.sign(weights) / len(weights))
        return slope if self.prior is None else slope + self.prior.gradient(weights) / examples


def default_objective() -> Objective:
    return Objective(reduce=mean_over_examples, l1=DEFAULT_L1)


LORAHUB_OBJECTIVE = Objective(reduce=lorahub_mean, l1=0.05)
