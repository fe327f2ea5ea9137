"""What is measured: base models with random weights in published shapes, random adapters, and few-shot examples."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from compose.examples import Example, Examples
from compose.scoring import LoadedBase

ADAPTERS, RANK, EXAMPLES, OUTPUT_TOKENS = 20, 16, 5, 8


@dataclass(frozen=True)
class Shape:
    """A base model, where its adapters sit, and about how many tokens go in. `key` names it in the results; `search`:
    a whole search is timed on it too."""

    key: str
    build: Callable[[], Any]
    kind: Any
    targets: tuple[str, ...]
    task_type: str
    input_tokens: int
    search: bool = False


def t5(width: int, layers: int, vocabulary: int, *, heads: int | None = None, ff: int | None = None) -> Any:
    config = T5Config(
        vocab_size=vocabulary, d_model=width, d_ff=ff or 4 * width, num_layers=layers, num_heads=heads or width // 64,
        decoder_start_token_id=0, feed_forward_proj="gated-gelu" if ff else "relu",
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def llama(width: int, layers: int, vocabulary: int, *, ff: int | None = None) -> Any:
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=ff or 11 * width // 4, num_hidden_layers=layers,
        num_attention_heads=width // 64, num_key_value_heads=width // 64, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def _t5(key: str, tokens: int, *sizes: int, **others: int) -> Shape:
    return Shape(key, lambda: t5(*sizes, **others), "seq2seq", ("q", "v"), "SEQ_2_SEQ_LM", tokens)


def _llama(key: str, *sizes: int, **others: int) -> Shape:
    return Shape(key, lambda: llama(*sizes, **others), "causal", ("q_proj", "v_proj"), "CAUSAL_LM", 64)


CPU_SHAPES = (
    _t5("t5_short", 24, 512, 8, 32128),
    _t5("t5_long", 128, 512, 8, 32128),
    _llama("llama", 512, 12, 32000),
    _llama("llama128k", 512, 12, 128256),
)
GPU_SHAPES = (
    *CPU_SHAPES,
    _t5("t5_large_short", 24, 1024, 24, 32128, heads=16, ff=2816),
    _t5("t5_large_long", 128, 1024, 24, 32128, heads=16, ff=2816),
    _llama("llama1b", 2048, 16, 128256, ff=8192),
)
GPU_SHAPES = tuple(replace(shape, search=shape.key.startswith("t5_large")) for shape in GPU_SHAPES)
SMALL_SHAPES = (
    _t5("t5_short", 24, 128, 2, 1000),
    _t5("t5_long", 48, 128, 2, 1000),
    _llama("llama", 128, 2, 1000),
    _llama("llama128k", 128, 2, 4000),
)
SMALL_GPU_SHAPES = (
    *SMALL_SHAPES,
    replace(_t5("t5_large_short", 24, 128, 2, 1000, heads=2, ff=176), search=True),
    replace(_t5("t5_large_long", 48, 128, 2, 1000, heads=2, ff=176), search=True),
    _llama("llama1b", 128, 2, 4000, ff=256),
)


@lru_cache(maxsize=1)  # drawing a billion random numbers takes longer than most of what is measured
def _drawn(shape: Shape) -> Any:
    torch.manual_seed(0)
    return shape.build().eval().requires_grad_(False)


def new_base(shape: Shape, dtype: torch.dtype, device: str = "cpu") -> LoadedBase:
    """The same weights at every call, in a model of its own."""
    model = deepcopy(_drawn(shape)).to(device, dtype)
    return LoadedBase(model, word_tokenizer(model.config.vocab_size), shape.kind, shape.key)


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Token i is the word "i"; 0 pads, 1 ends."""
    words = {"<pad>": 0, "</s>": 1, **{str(i): i for i in range(2, vocabulary)}}
    inner = Tokenizer(models.WordLevel(words, unk_token="2"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>")


def random_examples(shape: Shape, vocabulary: int) -> Examples:
    """Lengths that differ by a quarter, about 8 tokens out; nothing that two examples share."""
    random = np.random.default_rng(0)

    def text(length: int) -> str:
        return " ".join(map(str, random.integers(2, vocabulary, length)))

    lengths = np.linspace(0.75, 1.25, EXAMPLES)
    pairs = [(round(f * shape.input_tokens), round(f * OUTPUT_TOKENS)) for f in lengths]
    return Examples(tuple(Example(text(inner), text(outer)) for inner, outer in pairs))


def write_adapters(shape: Shape, model: Any, folder: Path, count: int = ADAPTERS) -> list[Path]:
    """Random adapters of rank 16 on q and v, as PEFT saves them."""
    config = peft.LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules=list(shape.targets), task_type=shape.task_type,
        init_lora_weights=False,
    )  # fmt: skip
    wrapped = peft.get_peft_model(model, config)
    folders = [folder / f"adapter-{i}" for i in range(count)]
    for one in folders:
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=0.02)
        wrapped.save_pretrained(one)
    wrapped.unload()
    return folders
