"""What a search needs from a model: a loss per example for K weight rows. Nothing here knows torch.

A scorer changes its base model while it works (hooks), so one thread per base model at a time. It has no other state:
the same weights give the same losses, whatever was scored before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Scorer(Protocol):
    """N adapters on a base model, and E examples. Weight rows are in the order of `adapter_names`."""

    @property
    def adapter_names(self) -> tuple[str, ...]: ...

    @property
    def token_counts(self) -> NDArray[np.int64]:
        """(E,) how many tokens the loss of each example is a mean over."""
        ...

    @property
    def method(self) -> str:
        """The merge method's name (`compose.methods.METHODS`)."""
        ...

    @property
    def method_params(self) -> Mapping[str, object]:
        """Its parameters, such as {"fold": "balanced"}."""
        ...

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(K, N) weights -> (K, E): the mean token loss of each example, in nats, independent of batching."""
        ...

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        """(K, N) weights -> K lists of E texts: greedy generation, or the best label."""
        ...
