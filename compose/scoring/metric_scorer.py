"""Generated answers as an objective: greedy texts of all candidates, decoded together, and a metric of each.

The loss of an example is 1 - metric, with the few-shot loss of the same row as the tie-break (`tie_break.py`). Any
`Scorer` can be wrapped: what it predicts is what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from textwrap import shorten

import numpy as np
from numpy.typing import NDArray

from ..errors import ComposeError, SearchError
from ..examples import Example, Examples
from .protocol import Scorer
from .text_metrics import TextMetric
from .tie_break import with_tie_break

Metric = Callable[[Sequence[str], Sequence[Example]], Sequence[float]]
"""(E predictions, E examples) -> E values from 0 (wrong) to 1 (right)."""
SHAPE = "it takes (predictions, examples) and returns one number from 0 (wrong) to 1 (right) for each example"


def per_example(metric: TextMetric) -> Metric:
    """A metric of one text against one reference, for all examples: the reference is the example's output."""
    return lambda predictions, examples: [metric(p, e.output) for p, e in zip(predictions, examples, strict=True)]


class MetricScorer:
    """A `Scorer` whose losses are 1 - `metric` of `inner`'s predictions, cut at the first of the `stop` strings.

    `SearchError` when the metric raises, or gives anything but a number from 0 to 1 for each example.
    """

    def __init__(
        self, inner: Scorer, metric: Metric, *, examples: Examples, name: str, stop: Sequence[str] = ()
    ) -> None:
        self._inner, self._metric, self._examples = inner, metric, examples
        self._name, self._stop = name, tuple(stop)

    @property
    def adapter_names(self) -> tuple[str, ...]:
        return self._inner.adapter_names

    @property
    def method(self) -> str:
        return self._inner.method

    @property
    def method_params(self) -> Mapping[str, object]:
        return self._inner.method_params

    @property
    def token_counts(self) -> NDArray[np.int64]:
        """All ones: one answer per example."""
        return np.ones(len(self._examples), dtype=np.int64)

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return with_tie_break(1 - self.values(weights), self._inner.example_losses(weights))

    def values(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(K, N) -> (K, E): the metric itself."""
        return np.array([self._measured(texts) for texts in self.predictions(weights)])

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        return [[cut(text, self._stop) for text in texts] for texts in self._inner.predictions(weights)]

    def _measured(self, texts: Sequence[str]) -> NDArray[np.float64]:
        count = len(texts)
        try:
            given = self._metric(texts, self._examples.rows)
        except ComposeError:  # an objective of ours, which says itself what it lacks
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise SearchError(
                f"the objective {self._name} failed for {count} predictions and their examples: {what}", remedy=SHAPE
            ) from error
        try:
            values = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            values = np.array(np.nan)
        if values.shape != (count,) or not ((values >= 0) & (values <= 1)).all():
            raise SearchError(
                f"the objective {self._name} gave {shorten(repr(given), 200)} for {count} examples", remedy=SHAPE
            )
        return values


def cut(text: str, stop: Sequence[str]) -> str:
    """`text` up to the first of the stop strings."""
    return text[: min((at for s in stop if (at := text.find(s)) >= 0), default=len(text))]
