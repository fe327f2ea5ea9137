"""What all scorers that run a `Population` have in common."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .population import Population, Share


class PopulationScorer:
    """What every scorer says of the mixes that it scores; the one parent of the scorers, which set `_population`."""

    _population: Population

    @property
    def share(self) -> Share:
        """Which forwards of a call are run; NaN and None stand for the results of the others."""
        return self._population.share

    @share.setter
    def share(self, share: Share) -> None:
        self._population.share = share

    @property
    def adapter_names(self) -> tuple[str, ...]:
        return self._population.stack.names

    @property
    def method(self) -> str:
        return self._population.stack.method.name

    @property
    def method_params(self) -> Mapping[str, object]:
        return self._population.stack.params

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        raise NotImplementedError

    def losses_and_gradients(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(K, N) weights -> (K, E) losses as `example_losses`, and (K, N): the gradient of each row's mean loss."""
        found = [self._one_with_gradient(row) for row in weights]  # one at a time: a backward keeps all activations
        return np.concatenate([losses for losses, _ in found]), np.array([gradient for _, gradient in found])

    def _one_with_gradient(self, row: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        with self._population.differentiating() as gradients:
            losses = self.example_losses(row[None])
        return losses, gradients[0][0].double().cpu().numpy() / losses.shape[1]

    @property
    def token_budget(self) -> int:
        """Tokens per forward, as it is by now."""
        return self._population.token_budget

    @token_budget.setter
    def token_budget(self, tokens: int) -> None:
        self._population.token_budget = tokens
