"""Adapters of every family that PEFT itself saved, on tiny bases, with PEFT's own merged weights to compare with."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Every kind of layer that LoRA knows but transformers' text models lack."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(8, 12, 3)
        self.conv2 = nn.Conv2d(3, 6, 3)
        self.conv3 = nn.Conv3d(2, 4, (3, 2, 3))
        self.emb = nn.Embedding(20, 8)
        self.lin = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin(x)


def new_base(kind: str) -> nn.Module:
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
    )

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 48, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    if kind in ("llama", "llama-tied"):
        tied = {"tie_word_embeddings": kind == "llama-tied"}
        model: nn.Module = LlamaForCausalLM(
            LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, **tied, pad_token_id=0)
        )
    elif kind == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=48,
                n_embd=16,
                n_layer=2,
                n_head=2,
                n_positions=16,
                bos_token_id=0,
                eos_token_id=0,
                tie_word_embeddings=False,
            )
        )
    elif kind == "bert":
        config = BertConfig(**sizes, num_attention_heads=2, num_labels=3, max_position_embeddings=16)
        model = BertForSequenceClassification(config)
    elif kind == "attention":
        model = nn.Sequential(nn.MultiheadAttention(8, 2), nn.Linear(8, 4))
    else:
        model = ConvNet()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def save_base(model: nn.Module, folder: Path) -> Path:
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)
    else:
        folder.mkdir()
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": "pico"}))
    return folder


@dataclass(frozen=True)
class Saved:
    """`merged` are PEFT's own merged weights; `initial` the adapter as it was before "training"."""

    base: Path
    adapter: Path
    initial: Path
    merged: dict[str, Tensor]


@pytest.fixture
def make_base() -> Callable[[str], nn.Module]:
    """A new copy of a base, always with the same values."""
    return new_base


@pytest.fixture
def peft_saved(tmp_path: Path) -> Callable[..., Saved]:
    """Make an adapter of any PEFT config on a tiny base, fill it with random values, save it, and merge it."""

    def make(kind: str, config: Any, *, seed: int = 0, name: str = "adapter") -> Saved:
        from peft import PeftModel, get_peft_model

        pristine = new_base(kind)
        base = tmp_path / f"base-{kind}"
        if not base.exists():
            save_base(pristine, base)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_peft_model(deepcopy(pristine), config)
            initial = tmp_path / f"{name}-initial"
            model.save_pretrained(initial)
            torch.manual_seed(seed)
            with torch.no_grad():
                for key, parameter in model.named_parameters():
                    if parameter.requires_grad:
                        positive = "magnitude" in key or "ia3" in key
                        parameter.copy_(
                            parameter + 0.2 * torch.rand_like(parameter)
                            if positive
                            else 0.3 * torch.randn_like(parameter)
                        )
            model.save_pretrained(tmp_path / name)
            # merging mutates weights that PEFT may share, so it is done on a model that was loaded anew
            again = PeftModel.from_pretrained(new_base(kind), tmp_path / name)
            merged = again.merge_and_unload()
        weights = {k: v.detach().clone() for k, v in merged.state_dict().items()}
        return Saved(base, tmp_path / name, initial, weights)

    return make
