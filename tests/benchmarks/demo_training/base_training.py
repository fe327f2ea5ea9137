"""Trains the demo's base model: a T5 of one million parameters that follows instructions of one or two operations.

Without an instruction it copies its input. That is a useful starting point for adapters (they learn what is different)
and an honest one for the comparison: the base alone cannot solve a task that it is not told.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from demo_training.operations import OPERATIONS, apply, instructed, random_text

Report = Callable[[str], None]

IGNORED = -100
"""The label of padding, which no loss counts."""
MAX_NEW_TOKENS = 24
"""More than the longest output, seven letters doubled."""


def make_model(tokenizer: PreTrainedTokenizerFast) -> T5ForConditionalGeneration:
    """A randomly initialised model: 3 + 3 layers of width 128, float32."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_heads=4,
        num_layers=3,
        dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    model = T5ForConditionalGeneration(config)
    model.generation_config.max_new_tokens = MAX_NEW_TOKENS
    return model


def make_batch(tokenizer: PreTrainedTokenizerFast, rows: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """Model inputs for `rows` of (input, output): input_ids, attention_mask and labels, (rows, longest) each."""
    inputs = tokenizer([row[0] for row in rows], padding=True, return_tensors="pt")
    labels = tokenizer([row[1] for row in rows], padding=True, return_tensors="pt").input_ids
    labels = labels.masked_fill(labels == tokenizer.pad_token_id, IGNORED)
    return {"input_ids": inputs.input_ids, "attention_mask": inputs.attention_mask, "labels": labels}


def mixture_row(rng: random.Random, pairs: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """One training row: a pair of operations (6 of 10), a single one (3 of 10), or a copy without instruction."""
    draw = rng.random()
    operations: Sequence[str] = ()
    if draw < 0.6:
        operations = rng.choice(pairs)
    elif draw < 0.9:
        operations = (rng.choice(list(OPERATIONS)),)
    text = random_text(rng, "train")
    return instructed(operations, text), apply(operations, text)


def learning_rate(step: int, *, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up to `peak`, then half a cosine down to a fiftieth of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def train_base(
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[tuple[str, str]],
    *,
    steps: int,
    batch: int,
    peak: float,
    seed: int,
    report: Report,
) -> T5ForConditionalGeneration:
    """The trained base model. `pairs` are the combinations that it sees, always with the full instruction."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = make_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = min(300, steps // 10 + 1)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps=steps, peak=peak, warmup=warmup)
        rows = [mixture_row(rng, pairs) for _ in range(batch)]
        loss = model(**make_batch(tokenizer, rows)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0 or step == steps - 1:
            report(f"base: step {step}/{steps}, loss {float(loss.detach()):.3f}")
    return model.eval()
