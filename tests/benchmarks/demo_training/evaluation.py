"""How well the base, alone or with one adapter, does a task: greedy exact match and mean token loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from demo_training.base_training import IGNORED, MAX_NEW_TOKENS, make_batch

ROWS_PER_BATCH = 256


def measure(model: Any, tokenizer: PreTrainedTokenizerFast, rows: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """(exact match, loss) of `model` on `rows` of (input, output).

    Exact match is the share of rows whose greedy output is the right string. The loss is the mean over rows of the
    mean token loss, in nats.
    """
    right, loss = 0, 0.0
    for start in range(0, len(rows), ROWS_PER_BATCH):
        part = rows[start : start + ROWS_PER_BATCH]
        batch = make_batch(tokenizer, part)
        labels = batch.pop("labels")
        with torch.no_grad():
            logits = model(**batch, labels=labels).logits
            written = model.generate(**batch, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, num_beams=1)
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        right += sum(text == row[1] for text, row in zip(texts, part, strict=True))
        losses = cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
        loss += float((losses.sum(dim=1) / (labels != IGNORED).sum(dim=1)).sum())
    return right / len(rows), loss / len(rows)
