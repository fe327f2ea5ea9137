"""A scorer of a search over methods, settled on one way to mix: rows are weights again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..method_space import MethodSpace, Setting
from .protocol import Scorer


class SettledScorer:
    """`scorer` of `methods`, with every row mixed by `setting`."""

    def __init__(self, scorer: Scorer, methods: MethodSpace, setting: Setting) -> None:
        self._scorer, self._methods, self._setting = scorer, methods, setting

    @property
    def adapter_names(self) -> tuple[str, ...]:
        return self._scorer.adapter_names

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return self._scorer.token_counts

    @property
    def method(self) -> str:
        return self._setting.method

    @property
    def method_params(self) -> Mapping[str, object]:
        return self._setting.params

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._scorer.example_losses(self._methods.widened(weights, self._setting))

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        return self._scorer.predictions(self._methods.widened(weights, self._setting))
