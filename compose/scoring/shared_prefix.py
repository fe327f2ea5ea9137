"""What all prompts of a causal model begin with, computed once per candidate instead of once per example.

An instruction or a template before every example is the usual case. Keys and values of the common first tokens are kept
while one set of mixes is attached, and every forward goes on from them. Between candidates nothing can be shared: their
adapters change the keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ..cache_argument import cache_argument
from ..device import input_device
from .output_layer import output_only_at

LEAST_SAVED = 64
"""Tokens per candidate; below that one more forward costs more than it saves."""


class SharedPrefix:
    """The common first tokens of `prompts`, at most all but one of the shortest; none where it does not pay."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        common = [column[0] for column in takewhile(lambda c: len(set(c)) == 1, zip(*prompts, strict=False))]
        common = common[: min(map(len, prompts)) - 1]
        saved = (len(prompts) - 1) * len(common)
        self.tokens = common if saved >= LEAST_SAVED and _repeats(model) else []
        self.share = saved / sum(map(len, prompts))
        """Of the prompts' tokens, how many need not be computed."""
        self._held: tuple[object, DynamicCache] | None = None
        self._ids: Tensor | None = None  # on the device

    def __len__(self) -> int:
        return len(self.tokens)

    def forget(self) -> None:
        """Never share anything from now on."""
        self.tokens, self.share, self._held = [], 0.0, None

    def drop(self) -> None:
        """Give back the memory of the mixes that were attached last."""
        self._held = None

    def cache(self, turn: object, *, rows: int, candidates: int) -> DynamicCache:
        """Keys and values of the prefix for `rows` rows of each candidate; a forward appends to it.
        `turn` says which mixes are attached."""
        if self._held is None or self._held[0] != turn:
            if self._ids is None:
                with torch.inference_mode(False):
                    self._ids = torch.tensor([self.tokens], device=input_device(self._model))
            self._held = None  # those of the mixes before go first
            ids = self._ids.repeat(candidates, 1)
            cache = DynamicCache(config=self._model.config)
            with output_only_at(self._model, ids.new_zeros(1)):
                self._model(input_ids=ids, **{cache_argument(self._model.forward): cache}, use_cache=True)
            self._held = (turn, cache)
        own = deepcopy(self._held[1])
        own.batch_repeat_interleave(rows)
        return own


def _repeats(model: Any) -> bool:
    """Whether what the model leaves behind a text can be repeated; the state of a recurrent layer cannot."""
    layers = DynamicCache(config=model.config).layers
    return all(hasattr(layer, "batch_repeat_interleave") for layer in layers)
