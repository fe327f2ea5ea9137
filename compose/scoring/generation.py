"""Greedy decoding settings that do not depend on what a checkpoint's generation_config.json says about sampling."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import GenerationConfig

from .tokens import pad_token


def greedy(model: nn.Module, tokenizer: Any, *, max_new_tokens: int) -> GenerationConfig:
    """Greedy, one beam, up to `max_new_tokens`; start and end tokens as the model has them."""
    own: Any = model.generation_config  # torch types the attributes of a module as tensors or modules
    eos = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        use_cache=True,
        max_new_tokens=max_new_tokens,
        eos_token_id=eos,
        pad_token_id=pad_token(tokenizer),
        decoder_start_token_id=own.decoder_start_token_id,
    )
