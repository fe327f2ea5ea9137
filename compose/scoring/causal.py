"""Few-shot loss and greedy texts of causal (decoder-only) models.

A row is the input's tokens (with the tokenizer's leading special tokens), then the output's tokens, then eos: nothing
is put between input and output, so a separator belongs into the examples' texts. Only output and eos carry loss.
Rows are padded on the left, so that the labels of all rows end at the same place; the output layer is computed there
only. What all prompts begin with is computed once per candidate, and the last layer is finished at the labels only.
That the model gives the same logits this way, and with padding, is tried once on the untouched base; where it does not,
that shortcut is left out, and examples are grouped by exact length.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..cache_argument import cache_argument
from ..device import input_device
from ..errors import BadExamples
from ..examples import Examples
from ..mixed_factors import Stack
from .agreement import agree
from .chunks import BESIDE
from .continuations import Continuations
from .label_places import LabelPlaces, label_places
from .last_layer import LastLayer
from .output_layer import output_only_at, wanted_logits
from .population import Population
from .population_scorer import PopulationScorer
from .shared_prefix import SharedPrefix
from .tokens import Padded, check_tokens, encode_continuation, encode_output, open_ended, pad_rows, pad_token


class CausalScorer(PopulationScorer):
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
        self._prompts = [_prompt(tokenizer, example.input, number) for number, example in enumerate(examples, 1)]
        self._labels = [encode_output(tokenizer, example.output) for example in examples]
        if not ends:
            pairs = [encode_continuation(tokenizer, e.input, e.output, joined=True) for e in examples]
            self._prompts = [ids or prompt for (ids, _), prompt in zip(pairs, self._prompts, strict=True)]
            self._labels = [ids for _, ids in pairs]
        self._rows = [prompt + labels for prompt, labels in zip(self._prompts, self._labels, strict=True)]
        check_tokens(model, self._labels, base_name=base_name, what="output")
        check_tokens(model, self._rows, base_name=base_name, what="text")
        self._max_new_tokens = max_new_tokens or max(len(labels) for labels in self._labels)
        self._answers = Continuations(model, tokenizer, self._prompts, max_new_tokens=self._max_new_tokens)
        parameters = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._batches: dict[tuple[int, ...], tuple[dict[str, Any], LabelPlaces]] = {}
        self._last, self._prefix = LastLayer(model), SharedPrefix(model, self._prompts)
        self._try_shortcuts()

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return np.array([len(labels) for labels in self._labels])

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        shared = len(self._prefix)
        lengths = [(len(row) - shared,) for row in self._rows]
        try:
            return self._population.losses(weights, lengths, self._losses, pad=self._pads, shared=shared)
        finally:
            self._prefix.drop()

    def losses_and_gradients(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if len(self._prefix):  # its states are copied, which no gradient goes through
            self._prefix.forget()
            self._batches.clear()
            self._population.forget_graphs()
        return super().losses_and_gradients(weights)

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        answers, steps = self._answers, self._max_new_tokens
        lengths = [(len(prompt) - answers.shared, steps // BESIDE) for prompt in self._prompts]
        try:
            return self._population.run(
                weights, lengths, self._texts, pad=answers.pads, shared=answers.shared, steps=steps
            )
        finally:
            answers.drop()

    def _losses(self, group: Sequence[int], candidates: int) -> Tensor:
        return self._batch(tuple(group))[1].mean_losses(self._label_logits(group, candidates))

    def _label_logits(self, group: Sequence[int], candidates: int) -> Tensor:
        """(K * label tokens, vocabulary)"""
        inputs, labels = self._batch(tuple(group))
        places = labels.of(candidates)
        going_on = self._going_on(len(group), candidates)
        with self._last.only_at(places), output_only_at(self._model, places):
            output = self._population.call(group, candidates, inputs, going_on)
        return wanted_logits(output.logits, places)

    def _going_on(self, rows: int, candidates: int) -> dict[str, Any]:
        """The shared prefix's states of the mixes that are attached; empty where there is no such prefix."""
        if not len(self._prefix):
            return {}
        cache = self._prefix.cache(self._population.turn, rows=rows, candidates=candidates)
        return {cache_argument(self._model.forward): cache, "use_cache": True}

    def _batch(self, group: tuple[int, ...]) -> tuple[dict[str, Any], LabelPlaces]:
        """What the model is given for the examples of `group` behind the shared prefix, and where their labels are
        predicted; made once."""
        if group not in self._batches:
            device, pad, shared = input_device(self._model), pad_token(self._tokenizer), len(self._prefix)
            with torch.inference_mode(False):  # kept, and gradients may go through what is made of it
                rows = pad_rows([self._rows[i][shared:] for i in group], value=pad, left=True, device=device)
                labels = pad_rows([self._labels[i] for i in group], value=pad, left=True, device=device)
                predicting = _predicting(labels.mask, rows.ids.shape[1])
                self._batches[group] = self._inputs(rows, shared), label_places(predicting, labels)
        return self._batches[group]

    def _inputs(self, rows: Padded, shared: int = 0) -> dict[str, Any]:
        given: dict[str, Any] = {"input_ids": rows.ids, "use_cache": False}
        if bool(rows.mask.all()):
            return given
        if self._takes_positions:
            given["position_ids"] = shared + _positions(rows.mask)
        return {**given, "attention_mask": functional.pad(rows.mask, (shared, 0), value=1)}

    def _try_shortcuts(self) -> None:
        """Switch off what gives other logits on the untouched base than computing all of one row: the shared prefix,
        the cut last layer, replayed lower layers; and padding. A prefix and a replay exclude each other."""
        if self._population.lower.share > self._prefix.share:
            self._prefix.forget()
        by_length = sorted(range(len(self._rows)), key=lambda i: len(self._rows[i]))
        for shortcut in (self._prefix, self._last, self._population.lower):
            if not all(self._agrees(example) for example in {by_length[0], by_length[-1]}):
                shortcut.forget()
                self._batches.clear()
        self._pads = self._takes_positions and self._pads_well(by_length[0], len(self._rows[by_length[-1]]))

    def _agrees(self, example: int) -> bool:
        """Whether the logits of its labels are those that the model gives when nothing is shared or cut."""
        row, width = self._rows[example], len(self._labels[example])
        ids = torch.tensor([row], device=input_device(self._model))

        def truth() -> Tensor:
            logits: Tensor = self._model(input_ids=ids, use_cache=False).logits[0, -width - 1 : -1]
            return logits

        with torch.inference_mode():
            same = agree(lambda: self._label_logits((example,), 1), truth, self._model)
        self._prefix.drop()
        return same

    def _pads_well(self, example: int, longest: int) -> bool:
        """Whether the model gives the same logits with padding as without: up to the longest row, and as much of it as
        there are tokens, so that a lost mask shows, where the model has positions for that. The padding is behind the
        shared prefix, where a window that slides counts it."""
        shared, width = len(self._prefix), len(self._labels[example])
        whole = self._rows[example]
        most = getattr(self._model.config, "max_position_embeddings", None)
        many = len(whole) if most is None else min(len(whole), most - len(whole))
        extra = max(2, longest - len(whole), many)
        pad, device = pad_token(self._tokenizer), input_device(self._model)

        def logits(extra: int) -> Tensor:
            rows = pad_rows([whole[shared:]], value=pad, left=True, extra=extra, device=device)
            given = {**self._inputs(rows, shared), **self._going_on(1, 1)}
            found: Tensor = self._model(**given).logits[:, -width - 1 : -1]
            return found

        with torch.inference_mode():
            same = agree(lambda: logits(extra), lambda: logits(0), self._model)
        self._prefix.drop()
        return same

    def _texts(self, group: Sequence[int], candidates: int) -> list[str]:
        return self._answers.texts(group, candidates, turn=self._population.turn)


def _prompt(tokenizer: Any, text: str, number: int) -> list[int]:
    """The input's tokens; at least one, as the first output token is predicted from the last of them."""
    ids = open_ended(tokenizer, text)
    if ids:
        return ids
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [int(token)]
    raise BadExamples(f"example {number}: its input has no tokens", remedy="give a text that is not empty")


def _predicting(labels: Tensor, width: int) -> Tensor:
    """(rows, width): where the next token is a label, from the labels' mask, both ending at the same place."""
    wanted = torch.zeros(labels.shape[0], width, dtype=torch.bool, device=labels.device)
    wanted[:, -labels.shape[1] - 1 : -1] = labels.bool()
    return wanted


def _positions(mask: Tensor) -> Tensor:
    """Positions that count from each row's first real token."""
    return (mask.cumsum(1) - 1).clamp(min=0)
