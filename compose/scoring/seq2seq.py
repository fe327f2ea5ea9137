"""Few-shot loss and greedy texts of encoder-decoder models (T5, BART ...).

Input: the tokenizer's own form of the input text, special tokens included. Labels: the output's tokens and eos, given
to the decoder shifted right as in training. The model's own forward computes the logits, so tied embeddings and
`scale_decoder_outputs` are honoured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..examples import Examples
from ..mixed_factors import Stack
from .generation import greedy
from .population import DEFAULT_TOKEN_BUDGET, Population, PopulationScorer
from .tokens import check_tokens, encode_output, mean_token_losses, pad_rows, pad_token


class Seq2SeqScorer(PopulationScorer):
    """A `Scorer`. `max_new_tokens` bounds the generated texts; by default the longest output of the examples."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        examples: Examples,
        stack: Stack,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        max_new_tokens: int | None = None,
        base_name: str = "the base model",
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._population = Population(model, stack, token_budget=token_budget, base_name=base_name)
        self._inputs = [list(tokenizer(example.input).input_ids) for example in examples]
        self._labels = [encode_output(tokenizer, example.output) for example in examples]
        check_tokens(model, self._inputs, base_name=base_name, what="input")
        check_tokens(model, self._labels, base_name=base_name, what="output")
        self._max_new_tokens = max_new_tokens or max(len(labels) for labels in self._labels)

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return np.array([len(labels) for labels in self._labels])

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        lengths = [(len(ids), len(labels)) for ids, labels in zip(self._inputs, self._labels, strict=True)]
        return np.array(self._population.losses(weights, lengths, self._losses))

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        lengths = [(len(ids), self._max_new_tokens) for ids in self._inputs]
        return self._population.run(weights, lengths, self._texts)

    def _losses(self, group: Sequence[int], candidates: int) -> torch.Tensor:
        device, pad = self._model.device, pad_token(self._tokenizer)
        inputs = pad_rows([self._inputs[i] for i in group], value=pad, device=device)
        # right padding of the labels needs no mask: a decoder position never sees the ones after it
        labels = pad_rows([self._labels[i] for i in group], value=pad, device=device)
        logits = self._model(
            input_ids=inputs.ids.repeat(candidates, 1),
            attention_mask=inputs.mask.repeat(candidates, 1),
            decoder_input_ids=self._shifted_right(labels.ids).repeat(candidates, 1),
            use_cache=False,
        ).logits
        return mean_token_losses(logits, labels)

    def _shifted_right(self, labels: torch.Tensor) -> torch.Tensor:
        start = torch.full_like(labels[:, :1], self._model.config.decoder_start_token_id)
        return torch.cat([start, labels[:, :-1]], dim=1)

    def _texts(self, group: Sequence[int], candidates: int) -> list[str]:
        pad = pad_token(self._tokenizer)
        inputs = pad_rows([self._inputs[i] for i in group], value=pad, device=self._model.device)
        generated = self._model.generate(
            input_ids=inputs.ids.repeat(candidates, 1),
            attention_mask=inputs.mask.repeat(candidates, 1),
            generation_config=greedy(self._model, self._tokenizer, max_new_tokens=self._max_new_tokens),
        )
        texts: list[str] = self._tokenizer.batch_decode(generated, skip_special_tokens=True)
        return texts
