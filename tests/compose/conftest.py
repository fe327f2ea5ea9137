"""Adapters and models for the tests of compose: hand-written folders, and tiny models with adapters that PEFT saved."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from compose.adapter import Factors, LoraAdapter

torch.set_num_threads(1)

TARGETS = {
    "t5": ["q", "v", "wo"],
    "llama": ["q_proj", "v_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}
TASK_TYPES = {"t5": "SEQ_2_SEQ_LM", "llama": "CAUSAL_LM", "gpt2": "CAUSAL_LM"}


def make_model(kind: str) -> nn.Module:
    """A tiny T5, Llama or GPT-2 in float32 with weights large enough that a changed module shows in the logits."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    torch.manual_seed(0)
    if kind == "t5":
        sizes = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
        model = T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0, dropout_rate=0.0))
    elif kind == "llama":
        sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
        model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1))
    else:
        off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        sizes = {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
        model = GPT2LMHeadModel(GPT2Config(**sizes, **off, bos_token_id=0, eos_token_id=0))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.2)
    return model.eval()


def logits_of(model: nn.Module) -> Tensor:
    """(2, 7, 64): the logits of two fixed texts."""
    ids = torch.randint(1, 64, (2, 7), generator=torch.Generator().manual_seed(1))
    is_t5 = model.config.is_encoder_decoder
    with torch.no_grad():
        return model(input_ids=ids, **({"decoder_input_ids": ids} if is_t5 else {})).logits


@pytest.fixture
def tiny_model() -> Callable[[str], nn.Module]:
    return make_model


@pytest.fixture
def logits() -> Callable[[nn.Module], Tensor]:
    return logits_of


@pytest.fixture
def peft_adapter(tmp_path: Path) -> Callable[..., Path]:
    """Save an adapter with PEFT itself, all its values random: `peft_adapter("llama", seed=1, r=4, ...)` -> folder."""

    def make(kind: str, *, seed: int = 0, **config: Any) -> Path:
        from peft import LoraConfig, get_peft_model

        config.setdefault("target_modules", TARGETS[kind])
        config.setdefault("fan_in_fan_out", kind == "gpt2")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT 0.21 asks transformers 5 for an old name
            model = get_peft_model(make_model(kind), LoraConfig(task_type=TASK_TYPES[kind], **config))
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=0.3)
        directory = tmp_path / f"{kind}-{seed}-{len(list(tmp_path.iterdir()))}"
        model.save_pretrained(directory)
        return directory

    return make


PLAIN = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "some/base", "task_type": "CAUSAL_LM"}


@pytest.fixture
def write_adapter(tmp_path: Path) -> Callable[..., Path]:
    """Write an adapter folder by hand: tensors under their full names, config fields as keywords."""

    def write(tensors: Mapping[str, Tensor] | None = None, *, name: str = "adapter", **fields: Any) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        if tensors is None:
            tensors = {"base_model.model.layer.q.lora_A.weight": torch.randn(2, 6)}
            tensors["base_model.model.layer.q.lora_B.weight"] = torch.randn(5, 2)
        save_file(dict(tensors), directory / "adapter_model.safetensors", metadata={"format": "pt"})
        (directory / "adapter_config.json").write_text(json.dumps({**PLAIN, **fields}), encoding="utf-8")
        return directory

    return write


@pytest.fixture
def random_adapter() -> Callable[..., LoraAdapter]:
    """An adapter in memory, in float64 for sharp comparisons: `random_adapter(seed, rank=2, scaling=1.0)`."""

    def make(
        seed: int,
        *,
        rank: int = 2,
        scaling: float = 1.0,
        paths: tuple[str, ...] = ("a", "b"),
        sizes: tuple[int, int] = (7, 5),
    ) -> LoraAdapter:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        modules = {path: Factors(draw(rank, sizes[0]), draw(sizes[1], rank), scaling) for path in paths}
        return LoraAdapter(f"adapter-{seed}", modules, base_model="some/base")

    return make
