"""Texts as token ids, and padded batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadExamples, BaseModelError


@dataclass(frozen=True)
class Padded:
    """Rows of tokens of one width: `ids` and `mask` (1 where a token is), both (rows, width), int64."""

    ids: Tensor
    mask: Tensor


def pad_rows(
    rows: Sequence[Sequence[int]], *, value: int, left: bool = False, extra: int = 0, device: torch.device
) -> Padded:
    """Pad with `value` to the longest row plus `extra`, on the right or on the left."""
    width = max(len(row) for row in rows) + extra
    ids = torch.full((len(rows), width), value, dtype=torch.int64)
    mask = torch.zeros(len(rows), width, dtype=torch.int64)
    for i, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, where] = torch.tensor(row, dtype=torch.int64)
        mask[i, where] = 1
    return Padded(ids.to(device), mask.to(device))


def attention_mask(padded: Padded) -> dict[str, Tensor]:
    """The mask as an argument for the model, left out where no row is padded: without it attention is cheaper."""
    return {} if bool(padded.mask.all()) else {"attention_mask": padded.mask}


def encode_output(tokenizer: Any, text: str) -> list[int]:
    """The output's tokens and one end-of-sequence token, where the tokenizer knows one."""
    ids: list[int] = list(tokenizer(text_target=text, add_special_tokens=False).input_ids)
    return ids if tokenizer.eos_token_id is None else [*ids, tokenizer.eos_token_id]


def encode_continuation(tokenizer: Any, context: str, text: str, *, joined: bool) -> tuple[list[int], list[int]]:
    """Tokens of a context and of the text that goes on from it, without an end, as lm-evaluation-harness splits them.

    White space at the end of the context belongs to the text, where tokenizers of words expect it. `joined`: both are
    one text to the model (causal), so they are encoded as one and cut after as many tokens as the context has alone.
    """
    kept = context.rstrip()
    text = context[len(kept) :] + text
    if joined:
        context_ids = open_ended(tokenizer, kept)
        return context_ids, open_ended(tokenizer, kept + text)[len(context_ids) :]
    return list(tokenizer(kept).input_ids), list(tokenizer(text_target=text, add_special_tokens=False).input_ids)


def open_ended(tokenizer: Any, text: str) -> list[int]:
    """The text's tokens without the eos that some tokenizers put after every text: it goes on."""
    ids: list[int] = list(tokenizer(text).input_ids)
    while len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def pad_token(tokenizer: Any) -> int:
    """The padding token, or any other: padded positions are masked."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def check_tokens(model: nn.Module, rows: Sequence[Sequence[int]], *, base_name: str, what: str) -> None:
    """`BaseModelError` when the tokenizer gives ids that the model has no embedding for, `BadExamples` when an example
    has no tokens or more than the model has positions for."""
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]  # torch types attributes as tensors
    known = embeddings.num_embeddings
    positions = getattr(model.config, "max_position_embeddings", None)
    for number, row in enumerate(rows, 1):
        if not row:
            raise BadExamples(f"example {number}: its {what} has no tokens", remedy="give a text that is not empty")
        if max(row) >= known:
            raise BaseModelError(
                f"{base_name}: the tokenizer gives the token {max(row)}, the model knows {known}",
                remedy="use the tokenizer that belongs to the base model",
            )
        if isinstance(positions, int) and len(row) > positions:
            raise BadExamples(
                f"example {number}: its {what} has {len(row)} tokens, {base_name} takes {positions}",
                remedy="shorten the text",
            )
