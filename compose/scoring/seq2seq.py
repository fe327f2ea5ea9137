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

from ..device import input_device
from ..examples import Examples
from ..mixed_factors import Stack
from .chunks import BESIDE
from .generation import greedy
from .label_places import LabelPlaces, label_places
from .output_layer import output_only_at, wanted_logits
from .population import Population
from .population_scorer import PopulationScorer
from .tokens import attention_mask, check_tokens, encode_continuation, encode_output, pad_rows, pad_token


class Seq2SeqScorer(PopulationScorer):
    """A `Scorer`. `max_new_tokens` bounds the generated texts; by default the longest output of the examples.
    `ends=False`: an output is a continuation without an end token, such as an option to rank."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        examples: Examples,
        stack: Stack,
        token_budget: int | None = None,
        tf32: bool = False,
        max_new_tokens: int | None = None,
        ends: bool = True,
        base_name: str = "the base model",
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._population = Population(model, stack, token_budget=token_budget, tf32=tf32, base_name=base_name)
        self._inputs = [list(tokenizer(example.input).input_ids) for example in examples]
        self._labels = [encode_output(tokenizer, example.output) for example in examples]
        if not ends:
            pairs = [encode_continuation(tokenizer, e.input, e.output, joined=False) for e in examples]
            self._inputs, self._labels = ([ids for ids, _ in pairs], [ids for _, ids in pairs])
        check_tokens(model, self._inputs, base_name=base_name, what="input")
        check_tokens(model, self._labels, base_name=base_name, what="output")
        self._batches: dict[tuple[int, ...], tuple[dict[str, Any], LabelPlaces]] = {}
        self._max_new_tokens = max_new_tokens or max(len(labels) for labels in self._labels)
        self._population.try_replay(lambda: self._label_logits((0,), 1))

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return np.array([len(labels) for labels in self._labels])

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        lengths = [(len(ids), len(labels)) for ids, labels in zip(self._inputs, self._labels, strict=True)]
        return self._population.losses(weights, lengths, self._losses)

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        steps = self._max_new_tokens
        lengths = [(len(ids), steps // BESIDE) for ids in self._inputs]
        return self._population.run(weights, lengths, self._texts, steps=steps)

    def _losses(self, group: Sequence[int], candidates: int) -> torch.Tensor:
        return self._batch(tuple(group))[1].mean_losses(self._label_logits(group, candidates))

    def _label_logits(self, group: Sequence[int], candidates: int) -> torch.Tensor:
        """(K * label tokens, vocabulary)"""
        inputs, labels = self._batch(tuple(group))
        places = labels.of(candidates)
        with output_only_at(self._model, places):
            output = self._population.call(group, candidates, inputs)
        return wanted_logits(output.logits, places)

    def _batch(self, group: tuple[int, ...]) -> tuple[dict[str, Any], LabelPlaces]:
        """What the model is given for the examples of `group`, and their labels' places; made once."""
        if group not in self._batches:
            device, pad = input_device(self._model), pad_token(self._tokenizer)
            with torch.inference_mode(False):  # kept, and gradients may go through what is made of it
                inputs = pad_rows([self._inputs[i] for i in group], value=pad, device=device)
                # right padding of the labels needs no mask: a decoder position never sees the ones after it
                labels = pad_rows([self._labels[i] for i in group], value=pad, device=device)
                shifted = self._shifted_right(labels.ids)
                given = {"input_ids": inputs.ids, "decoder_input_ids": shifted, "use_cache": False}
                self._batches[group] = {**given, **attention_mask(inputs)}, label_places(labels.mask, labels)
        return self._batches[group]

    def _shifted_right(self, labels: torch.Tensor) -> torch.Tensor:
        start = torch.full_like(labels[:, :1], self._model.config.decoder_start_token_id)
        return torch.cat([start, labels[:, :-1]], dim=1)

    def _texts(self, group: Sequence[int], candidates: int) -> list[str]:
        pad, recorded = pad_token(self._tokenizer), self._batch(tuple(group))[0]
        inputs = pad_rows([self._inputs[i] for i in group], value=pad, device=input_device(self._model))
        with self._population.lower.replayed(
            tuple(group), lambda: self._model(**recorded), rows=len(group), candidates=candidates, generating=True
        ):
            generated = self._model.generate(
                input_ids=inputs.ids.repeat(candidates, 1),
                attention_mask=inputs.mask.repeat(candidates, 1),
                generation_config=greedy(self._model, self._tokenizer, max_new_tokens=self._max_new_tokens),
            )
        texts: list[str] = self._tokenizer.batch_decode(generated, skip_special_tokens=True)
        return texts
