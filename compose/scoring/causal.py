"""Few-shot loss and greedy texts of causal (decoder-only) models.

A row is the input's tokens (with the tokenizer's leading special tokens), then the output's tokens, then eos: nothing
is put between input and output, so a separator belongs into the examples' texts. Only output and eos carry loss.
Rows are padded on the left, so that the labels of all rows end at the same place and the output layer is computed there
only (`logits_to_keep`). That the model gives the same logits this way is tried once, on one row of the untouched base;
where it does not, examples are grouped by exact length, or the whole output is computed.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import BadExamples
from ..examples import Examples
from ..mixed_factors import Stack
from .generation import greedy
from .population import DEFAULT_TOKEN_BUDGET, Population, PopulationScorer
from .tokens import Padded, check_tokens, encode_output, mean_token_losses, pad_rows, pad_token


class CausalScorer(PopulationScorer):
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
        self._prompts = [_prompt(tokenizer, example.input, number) for number, example in enumerate(examples, 1)]
        self._labels = [encode_output(tokenizer, example.output) for example in examples]
        self._rows = [prompt + labels for prompt, labels in zip(self._prompts, self._labels, strict=True)]
        check_tokens(model, self._labels, base_name=base_name, what="output")
        check_tokens(model, self._rows, base_name=base_name, what="text")
        self._max_new_tokens = max_new_tokens or max(len(labels) for labels in self._labels)
        parameters = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._pads = self._takes_positions
        self._keeps = "logits_to_keep" in parameters
        self._try_shortcuts()

    @property
    def token_counts(self) -> NDArray[np.int64]:
        return np.array([len(labels) for labels in self._labels])

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        lengths = [(len(row),) for row in self._rows]
        return np.array(self._population.losses(weights, lengths, self._losses, pad=self._pads))

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        lengths = [(len(prompt), self._max_new_tokens) for prompt in self._prompts]
        return self._population.run(weights, lengths, self._texts, pad=self._pads)

    def _losses(self, group: Sequence[int], candidates: int) -> Tensor:
        device, pad = self._model.device, pad_token(self._tokenizer)
        rows = pad_rows([self._rows[i] for i in group], value=pad, left=True, device=device)
        labels = pad_rows([self._labels[i] for i in group], value=pad, left=True, device=device)
        return mean_token_losses(self._label_logits(rows, labels.ids.shape[1], candidates), labels)

    def _label_logits(self, rows: Padded, width: int, candidates: int) -> Tensor:
        """Logits that predict the last `width` tokens of each row: (K * rows, width, vocabulary)."""
        keyed: dict[str, object] = {}
        if self._keeps:
            keyed["logits_to_keep"] = width + 1
        if self._takes_positions and not bool(rows.mask.all()):
            keyed["position_ids"] = _positions(rows.mask).repeat(candidates, 1)
        logits: Tensor = self._model(
            input_ids=rows.ids.repeat(candidates, 1),
            attention_mask=rows.mask.repeat(candidates, 1),
            use_cache=False,
            **keyed,
        ).logits
        return logits[:, -width - 1 : -1]

    def _try_shortcuts(self) -> None:
        """Switch off padding, then `logits_to_keep`, unless the base gives the same logits with them as without."""
        shortest = min(range(len(self._rows)), key=lambda i: len(self._rows[i]))
        row, width = [self._rows[shortest]], len(self._labels[shortest])
        pad, device = pad_token(self._tokenizer), self._model.device
        plain = pad_rows(row, value=pad, left=True, device=device)
        padded = pad_rows(row, value=pad, left=True, extra=2, device=device)
        with torch.inference_mode():
            whole = self._model(input_ids=plain.ids, attention_mask=plain.mask, use_cache=False).logits
            truth = whole[:, -width - 1 : -1]
            if self._pads:
                self._pads = _same(self._label_logits(padded, width, 1), truth)
            if not self._pads and self._keeps:
                self._keeps = _same(self._label_logits(plain, width, 1), truth)

    def _texts(self, group: Sequence[int], candidates: int) -> list[str]:
        pad = pad_token(self._tokenizer)
        prompts = pad_rows([self._prompts[i] for i in group], value=pad, left=True, device=self._model.device)
        generated = self._model.generate(
            input_ids=prompts.ids.repeat(candidates, 1),
            attention_mask=prompts.mask.repeat(candidates, 1),
            generation_config=greedy(self._model, self._tokenizer, max_new_tokens=self._max_new_tokens),
        )
        new = generated[:, prompts.ids.shape[1] :]
        texts: list[str] = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts


def _prompt(tokenizer: Any, text: str, number: int) -> list[int]:
    """The input's tokens; at least one, as the first output token is predicted from the last of them."""
    ids: list[int] = list(tokenizer(text).input_ids)
    while len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        ids.pop()  # a tokenizer that ends every text with eos; a prompt goes on
    if ids:
        return ids
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [int(token)]
    raise BadExamples(f"example {number}: its input has no tokens", remedy="give a text that is not empty")


def _positions(mask: Tensor) -> Tensor:
    """Positions that count from each row's first real token."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def _same(found: Tensor, truth: Tensor) -> bool:
    """Equal but for rounding: a wrong position or a lost mask changes far more than this."""
    if found.shape != truth.shape:
        return False
    scale = float(truth.abs().max()) or 1.0
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4}.get(truth.dtype, 0.05)
    return float((found - truth).abs().max()) <= tolerance * scale
