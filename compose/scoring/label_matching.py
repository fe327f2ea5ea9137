"""Loss and best label of text encoders: which label's text lies nearest to the input's text?

loss = cross-entropy over temperature * cosine(mean-pooled embedding of the input, embedding of each label's text).
The label embeddings come from the untouched base and are computed once. This is the setting in which sentence encoders
such as all-MiniLM-L6-v2 are commonly tuned (temperature 20; Reimers and Gurevych 2019, `MultipleNegativesRankingLoss`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..device import input_device
from ..errors import BadExamples
from ..examples import Examples, default_labels
from ..mixed_factors import Stack
from .population import Population
from .population_scorer import PopulationScorer
from .tokens import Padded, check_tokens, pad_rows, pad_token


class LabelMatchingScorer(PopulationScorer):
    """A `Scorer`. `labels`: label -> text, by default the distinct outputs; longer texts are cut at `max_length`."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        examples: Examples,
        stack: Stack,
        labels: Mapping[str, str] | None = None,
        temperature: float = 20.0,
        max_length: int = 56,
        token_budget: int | None = None,
        tf32: bool = False,
        base_name: str = "the base model",
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._temperature, self._max_length = temperature, max_length
        self._population = Population(model, stack, token_budget=token_budget, tf32=tf32, base_name=base_name)
        texts = dict(labels) if labels is not None else default_labels(examples)
        self._names = tuple(texts)
        self._targets = _targets(examples, self._names)
        self._inputs = self._tokens([example.input for example in examples])
        label_ids = self._tokens(list(texts.values()))
        check_tokens(model, self._inputs, base_name=base_name, what="input")
        check_tokens(model, label_ids, base_name=base_name, what="label text")
        with torch.no_grad():  # not inference_mode: the search by gradients goes through them
            # one by one, so that a label's embedding does not depend on the other labels
            self._label_embeddings = torch.cat([self._embed(self._padded([ids])) for ids in label_ids])
        self._batches: dict[tuple[int, ...], tuple[Padded, Tensor]] = {}
        self._population.try_replay(lambda: self._logits((0,), 1))

    @property
    def token_counts(self) -> NDArray[np.int64]:
        """All ones: one choice per example."""
        return np.ones(len(self._inputs), dtype=np.int64)

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._population.losses(weights, self._lengths(), self._losses)

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        return self._population.run(weights, self._lengths(), self._best_labels)

    def _lengths(self) -> list[tuple[int, ...]]:
        return [(len(ids),) for ids in self._inputs]

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(self._tokenizer(t, truncation=True, max_length=self._max_length).input_ids) for t in texts]

    def _padded(self, rows: Sequence[Sequence[int]]) -> Padded:
        return pad_rows(rows, value=pad_token(self._tokenizer), device=input_device(self._model))

    def _batch(self, group: tuple[int, ...]) -> tuple[Padded, Tensor]:
        """The inputs of the examples of `group` and the numbers of their labels (rows,); made once."""
        if group not in self._batches:
            with torch.inference_mode(False):
                targets = torch.tensor([self._targets[i] for i in group], device=self._label_embeddings.device)
                self._batches[group] = self._padded([self._inputs[i] for i in group]), targets
        return self._batches[group]

    def _embed(self, padded: Padded, group: Sequence[int] = (), candidates: int = 1) -> Tensor:
        """Mean of the last hidden states over real tokens, of unit length: (K * rows, width). `group`: the examples
        that the rows are, where they are examples."""
        inputs = {"input_ids": padded.ids, "attention_mask": padded.mask}
        output = self._population.call(group, candidates, inputs) if group else self._model(**inputs)
        hidden = output.last_hidden_state
        hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
        weight = padded.mask.repeat(candidates, 1).unsqueeze(-1).to(hidden.dtype)
        return functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)

    def _logits(self, group: Sequence[int], candidates: int) -> Tensor:
        """(K * rows, labels)"""
        embedded = self._embed(self._batch(tuple(group))[0], group, candidates)
        return self._temperature * embedded @ self._label_embeddings.T

    def _losses(self, group: Sequence[int], candidates: int) -> Tensor:
        logits = self._logits(group, candidates)
        targets = self._batch(tuple(group))[1].repeat(candidates)
        return functional.cross_entropy(logits, targets, reduction="none")

    def _best_labels(self, group: Sequence[int], candidates: int) -> list[str]:
        return [self._names[best] for best in self._logits(group, candidates).argmax(-1).tolist()]


def _targets(examples: Examples, names: Sequence[str]) -> list[int]:
    if len(names) < 2:
        raise BadExamples(
            f"label matching needs at least two labels, these examples have {len(names)}",
            remedy="give the whole label set with --labels FILE",
        )
    index = {name: i for i, name in enumerate(names)}
    for number, example in enumerate(examples, 1):
        if example.output not in index:
            raise BadExamples(
                f"example {number}: its output {example.output!r} is none of the labels ({', '.join(names)})",
                remedy="add it to the label file, or correct the example",
            )
    return [index[example.output] for example in examples]
