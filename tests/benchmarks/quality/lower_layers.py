"""Adapters that change only upper layers leave the lower ones as they are: compute those once per text.

Only for benchmarks, which score the same few hundred texts thousands of times. The model keeps its module paths, so
that the product's own scorers run on it unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compose.adapter import LoraAdapter
from compose.examples import Examples
from compose.scoring import LoadedBase, make_scorer


def remember_lower_layers(base: LoadedBase, adapters: Sequence[LoraAdapter]) -> LoadedBase:
    """The base, its layers below the first adapted one replaced by a memory; unchanged where that cannot be done."""
    layers = [re.match(r"encoder\.layer\.(\d+)\.", path) for adapter in adapters for path in adapter.modules]
    lowest = min((int(found[1]) if found else 0 for found in layers), default=0)
    if type(base.model).__name__ != "BertModel" or lowest == 0:
        return base
    model = base.model
    model.embeddings = _LowerLayers(model.embeddings, model.encoder.layer[:lowest], pad=base.tokenizer.pad_token_id)
    for i in range(lowest):
        model.encoder.layer[i] = _Done()
    return replace(base, model=model)


def largest_difference(
    plain: LoadedBase, quick: LoadedBase, adapters: Sequence[LoraAdapter], examples: Examples, labels: dict[str, str]
) -> float:
    """Between the example losses of two bases, over two random mixes by both merges."""
    weights = np.random.default_rng(0).uniform(-0.5, 0.5, (2, len(adapters)))
    losses = [
        [
            make_scorer(base, examples=examples, adapters=adapters, labels=labels, method=method).example_losses(
                weights
            )
            for method in ("lorahub", "exact")
        ]
        for base in (plain, quick)
    ]
    return float(np.abs(np.array(losses[0]) - np.array(losses[1])).max())


class _LowerLayers(nn.Module):
    """In the place of a BertModel's embeddings: gives the hidden states after its first layers."""

    def __init__(self, embeddings: Any, layers: nn.ModuleList, *, pad: int) -> None:
        super().__init__()
        self.embeddings, self.layers = embeddings, layers
        self.word_embeddings = embeddings.word_embeddings
        self._pad = pad
        self._known: dict[tuple[int, ...], Tensor] = {}

    def forward(self, input_ids: Tensor, **_: Any) -> Tensor:
        """(rows, width) -> (rows, width, hidden), zeros where a row is padded."""
        hidden = [self._one(row) for row in input_ids.tolist()]
        padded = hidden[0].new_zeros(*input_ids.shape, hidden[0].shape[-1])
        for into, states in zip(padded, hidden, strict=True):
            into[: len(states)] = states
        return padded

    def _one(self, row: list[int]) -> Tensor:
        length = len(row)
        while row[length - 1] == self._pad:
            length -= 1
        key = tuple(row[:length])
        if key not in self._known:
            states = self.embeddings(input_ids=torch.tensor([key]))
            for layer in self.layers:
                states = layer(states)
            self._known[key] = states[0]
        return self._known[key]


class _Done(nn.Module):
    """A layer whose work `_LowerLayers` has done."""

    def forward(self, states: Tensor, *_: Any, **__: Any) -> Tensor:
        return states
