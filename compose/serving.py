"""What vLLM and LoRAX accept, and how they are started with an adapter.

vLLM takes LoRA on linear layers only: no DoRA, biases, trained heads or embeddings, and ranks up to 512, with
--max-lora-rank one of RANKS (vllm/config/lora.py). It reads r and lora_alpha but no patterns, so ranks must be uniform.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from .adapter import Factors, LoraAdapter
from .errors import UnsupportedAdapter

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def check_servable(adapter: LoraAdapter, modules: Mapping[str, Factors]) -> None:
    """`UnsupportedAdapter` says what vLLM and LoRAX would refuse, or pass over in silence."""
    if not adapter.is_plain or not modules:
        raise UnsupportedAdapter(
            f"{adapter.name}: vLLM and LoRAX take LoRA on linear layers only, this adapter holds more",
            remedy="serve the base model with the adapter in it: --fused",
        )
    rank = max(factors.rank for factors in modules.values())
    if rank > RANKS[-1]:
        raise UnsupportedAdapter(
            f"{adapter.name}: has rank {rank}, vLLM takes at most {RANKS[-1]}", remedy=f"--max-rank {RANKS[-1]}"
        )


def start_lines(base_model: str | None, name: str, rank: int) -> tuple[str, ...]:
    """The commands that serve the adapter from its folder."""
    base, called = shlex.quote(base_model or "BASE_MODEL"), shlex.quote(name.rpartition("/")[2] or "adapter")
    limit = next(allowed for allowed in RANKS if allowed >= rank)
    return (
        f"vllm serve {base} --enable-lora --max-lora-rank {limit} --lora-modules {called}=path/of/this/folder",
        f"lorax-launcher --model-id {base} --adapter-id path/of/this/folder --adapter-source local",
    )
