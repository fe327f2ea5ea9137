"""Choice ranking: which of the options does the model find most likely, as lm-evaluation-harness asks it.

Every (example, option) is a row of a few-shot loss scorer without an end token: log-likelihood = -(mean token loss) x
(number of tokens). The option with the highest one is the answer (`acc`), or the highest per character (`acc_norm`) or
per UTF-8 byte (`acc_bytes`). Reference: lm-evaluation-harness 0.4.13, `lm_eval/api/task.py`, `process_results` of
multiple_choice; `lm_eval/api/model.py`, `_encode_pair`. Nothing is put between input and option: the harness's
target_delimiter " " is a space at the end of the input here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import BadExamples
from ..examples import Example, Examples
from .protocol import Scorer
from .tie_break import with_tie_break

Normalise = Literal["acc", "acc_norm", "acc_bytes"]
Floats = NDArray[np.float64]


class ChoiceScorer:
    """A `Scorer` of examples that name their choices. The loss of an example is 0 or 1 with the cross-entropy over its
    (normalised) options as tie-break; with `soft` it is that cross-entropy alone.

    `make(rows)` gives the few-shot loss scorer of rows whose outputs are continued, not ended (`ends=False`).
    """

    def __init__(
        self, make: Callable[[Examples], Scorer], *, examples: Examples, normalise: Normalise, soft: bool = False
    ) -> None:
        _check(examples)
        self._examples, self._soft = examples, soft
        self._inner = make(Examples(tuple(Example(e.input, choice) for e in examples for choice in e.choices)))
        ends = np.cumsum([len(example.choices) for example in examples])
        self._spans = [slice(end - len(e.choices), end) for end, e in zip(ends.tolist(), examples, strict=True)]
        self._gold = [example.choices.index(example.output) for example in examples]
        lengths = {"acc": _one, "acc_norm": len, "acc_bytes": _utf8_bytes}[normalise]
        self._lengths = np.array([lengths(choice) for e in examples for choice in e.choices], dtype=np.float64)

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
        """All ones: one choice per example."""
        return np.ones(len(self._examples), dtype=np.int64)

    def log_likelihoods(self, weights: Floats) -> list[list[Floats]]:
        """(K, N) -> for each candidate and example the log-likelihood of each option, in nats, not normalised."""
        sums = -self._inner.example_losses(weights) * self._inner.token_counts
        return [[row[span] for span in self._spans] for row in sums]

    def example_losses(self, weights: Floats) -> Floats:
        scores = self._scores(weights)
        soft = np.array([[_cross_entropy(s, gold) for s, gold in zip(row, self._gold, strict=True)] for row in scores])
        return soft if self._soft else with_tie_break(1 - self._right(scores), soft)

    def values(self, weights: Floats) -> Floats:
        """(K, N) -> (K, E): 1 where the best option is the right one, else 0."""
        return self._right(self._scores(weights))

    def predictions(self, weights: Floats) -> list[list[str]]:
        return [
            [example.choices[int(np.argmax(s))] for s, example in zip(row, self._examples, strict=True)]
            for row in self._scores(weights)
        ]

    def _scores(self, weights: Floats) -> list[list[Floats]]:
        return [
            [options / self._lengths[span] for options, span in zip(row, self._spans, strict=True)]
            for row in self.log_likelihoods(weights)
        ]

    def _right(self, scores: Sequence[Sequence[Floats]]) -> Floats:
        return np.array([[float(np.argmax(s) == g) for s, g in zip(row, self._gold, strict=True)] for row in scores])


def with_choices(examples: Examples, labels: Mapping[str, str] | None) -> Examples:
    """Rows that name no choices get the texts of `labels` (label -> text), and as output the text of their label."""
    if labels is None:
        return examples
    texts = tuple(labels.values())
    if len(set(texts)) < len(texts):
        raise BadExamples("two labels have the same text", remedy="give every label a text of its own with --labels")
    rows = []
    for number, example in enumerate(examples, 1):
        if not example.choices and example.output not in labels:
            raise BadExamples(
                f"example {number}: its output {example.output!r} is none of the labels ({', '.join(labels)})",
                remedy="add it to the label file, or correct the example",
            )
        rows.append(example if example.choices else Example(example.input, labels[example.output], texts))
    return Examples(tuple(rows))


def _check(examples: Examples) -> None:
    for number, example in enumerate(examples, 1):
        if not example.choices:
            raise BadExamples(
                f"example {number} names no choices to rank",
                remedy='give the label texts with --labels FILE, or write "choices": [...] in every row',
            )


def _one(text: str) -> int:
    del text
    return 1


def _utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8"))


def _cross_entropy(scores: Floats, gold: int) -> float:
    return float(np.logaddexp.reduce(scores) - scores[gold])
