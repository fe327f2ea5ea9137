"""Greedy texts that go on from prompts of a causal model, for all candidates at once.

What all prompts begin with is computed once per candidate, and every answer goes on from its keys and values. A row is
the shared prefix, padding, and the rest of its prompt; positions count real tokens only. Whether the model answers the
same way like this, and with padding at all, is tried on the untouched base before the first answer, at the width that
the longest answer reaches: a window that slides counts padding too. Where it differs the examples are grouped by exact
length, or their prompts computed whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..cache_argument import cache_argument
from ..device import input_device
from .agreement import agree
from .generation import greedy
from .shared_prefix import SharedPrefix
from .tokens import pad_rows, pad_token

TRIED = 2
"""Tokens generated to compare: the first comes from the prompt, the second also from what the first left behind."""


class Continuations:
    """Of `prompts` (tokens), at most `max_new_tokens` each. The model is used as it is when `texts` is called."""

    def __init__(self, model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> None:
        self._model, self._tokenizer, self._prompts = model, tokenizer, prompts
        self._max_new_tokens = max_new_tokens
        self._prefix = SharedPrefix(model, prompts)

    @property
    def shared(self) -> int:
        """Tokens of a prompt that are computed once per candidate. To be asked while no mix is attached."""
        return len(self._prefix) if self._way[0] else 0

    @property
    def pads(self) -> bool:
        """Whether prompts of different lengths may go into one forward. To be asked while no mix is attached."""
        return self._way[1]

    def drop(self) -> None:
        """Give back the memory of the mixes that were attached last."""
        self._prefix.drop()

    def texts(self, group: Sequence[int], candidates: int, *, turn: object) -> list[str]:
        """K * len(group) texts, candidate-major. `turn` says which mixes are attached."""
        config = greedy(self._model, self._tokenizer, max_new_tokens=self._max_new_tokens)
        given = self._given(group, candidates, turn=turn, shared=self.shared)
        new = self._model.generate(**given, generation_config=config)[:, given["input_ids"].shape[1] :]
        texts: list[str] = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts

    def _given(
        self, group: Sequence[int], candidates: int, *, turn: object, shared: int, extra: int = 0
    ) -> dict[str, Any]:
        pad, device = pad_token(self._tokenizer), input_device(self._model)
        rests = [self._prompts[i][shared:] for i in group]
        rows = pad_rows(rests, value=pad, left=True, extra=extra, device=device)
        prefix = torch.tensor(self._prefix.tokens[:shared], dtype=torch.int64, device=device)
        given: dict[str, Any] = {
            "input_ids": torch.cat([prefix.expand(len(group), -1), rows.ids], dim=1).repeat(candidates, 1),
            "attention_mask": functional.pad(rows.mask, (shared, 0), value=1).repeat(candidates, 1),
        }
        if shared:
            own = self._prefix.cache(turn, rows=len(group), candidates=candidates)
            given[cache_argument(self._model.generate)] = own
        return given

    @cached_property
    def _way(self) -> tuple[bool, bool]:
        """Whether to go on from the shared prefix, and whether with padding: the first way that changes nothing."""
        by_length = sorted(range(len(self._prompts)), key=lambda i: len(self._prompts[i]))
        ends = sorted({by_length[0], by_length[-1]})
        going_on = [(True, True), (True, False)] if len(self._prefix) else []
        truth = partial(self._apart, ends, shared=0)
        with torch.inference_mode():
            for goes_on, pads in (*going_on, (False, True)):
                shared = len(self._prefix) if goes_on else 0
                # the longest row without padding, then all of them as wide as the longest answer makes them
                extras = 0, max(1, self._max_new_tokens - TRIED)
                together = [partial(self._first_logits, ends, shared=shared, extra=extra) for extra in extras]
                ways = together if pads else [partial(self._apart, ends, shared=shared)]
                try:
                    if all(agree(way, truth, self._model) for way in ways):
                        return goes_on, pads
                except (TypeError, ValueError):  # its `generate` takes no states to go on from
                    continue
        return False, False

    def _apart(self, group: Sequence[int], *, shared: int) -> Tensor:
        return torch.cat([self._first_logits([i], shared=shared) for i in group])

    def _first_logits(self, group: Sequence[int], *, shared: int, extra: int = 0) -> Tensor:
        """(rows, TRIED, vocabulary) of the untouched base, as exact as the model computes and `generate` tells."""
        config = greedy(self._model, self._tokenizer, max_new_tokens=TRIED)
        config.update(min_new_tokens=TRIED, output_logits=True, return_dict_in_generate=True)
        given = self._given(group, 1, turn=None, shared=shared, extra=extra)
        logits = torch.stack(self._model.generate(**given, generation_config=config).logits, dim=1)
        self._prefix.drop()
        return logits.to(torch.float32 if self._model.dtype == torch.float64 else self._model.dtype)
