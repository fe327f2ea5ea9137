"""Texts as token ids, padded batches of them, and the loss of given tokens under given logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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


def mean_token_losses(logits: Tensor, labels: Padded) -> Tensor:
    """Mean negative log-likelihood of each row's labels, (K * rows,), in float32 (float64 for float64 logits).

    `logits` is (K * rows, width, vocabulary), `labels` (rows, width): every candidate has the same labels.
    """
    repeats = logits.shape[0] // labels.ids.shape[0]
    wanted = labels.mask.bool().repeat(repeats, 1)
    flat = logits[wanted]
    flat = flat if flat.dtype == torch.float64 else flat.float()
    losses = functional.cross_entropy(flat, labels.ids.repeat(repeats, 1)[wanted], reduction="none")
    summed = losses.new_zeros(wanted.shape[0]).index_add_(0, wanted.nonzero()[:, 0], losses)
    return summed / wanted.sum(1)


def encode_output(tokenizer: Any, text: str) -> list[int]:
    """The output's tokens and one end-of-sequence token, where the tokenizer knows one."""
    ids: list[int] = list(tokenizer(text_target=text, add_special_tokens=False).input_ids)
    return ids if tokenizer.eos_token_id is None else [*ids, tokenizer.eos_token_id]


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
