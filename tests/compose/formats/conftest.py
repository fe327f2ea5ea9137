"""Adapters of every family that PEFT itself saved, on tiny bases, with PEFT's own merged weights to compare with."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
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
        self.point = nn.Conv2d(6, 4, 1)
        self.emb = nn.Embedding(20, 8)
        self.lin = nn.Linear(12, 5)

    def forward(self, input_ids: Tensor) -> Tensor:
        text = self.emb(input_ids)
        scores = self.lin(self.conv1(text.transpose(1, 2)).mean(2))
        image, volume = (torch.linspace(-1, 1, n).sin() for n in (75, 72))
        seen = self.point(self.conv2(image.view(1, 3, 5, 5))).flatten()
        felt = self.conv3(volume.view(1, 2, 3, 3, 4)).flatten()
        return torch.cat([scores.flatten(), seen, felt])


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.lin = nn.Linear(8, 4)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = (input_ids[..., None] * torch.arange(1.0, 9.0)).sin()
        return self.lin(self.attn(x, x, x, need_weights=False)[0])


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
        model = Attending()
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


def lora(**fields: Any) -> Callable[[], Any]:
    def make() -> Any:
        from peft import LoraConfig

        return LoraConfig(**{"r": 3, "lora_alpha": 5, **fields})

    return make


def other(name: str, **fields: Any) -> Callable[[], Any]:
    def make() -> Any:
        import peft

        return getattr(peft, name)(**fields)

    return make


QV = ["q_proj", "v_proj"]
CONVS = ["conv1", "conv2", "conv3", "emb", "lin"]
FLAT = ["conv1", "conv2", "point"]
FAMILIES: dict[str, tuple[str, Callable[[], Any]]] = {
    "lora": ("llama", lora(target_modules=QV)),
    "rslora": ("llama", lora(target_modules=QV, use_rslora=True)),
    "patterns": ("llama", lora(target_modules=QV, rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 7})),
    "patterns and rslora": ("llama", lora(target_modules=QV, rank_pattern={"q_proj": 2}, use_rslora=True)),
    "some layers": ("llama", lora(target_modules=QV, layers_to_transform=[1])),
    "Conv1D": ("gpt2", lora(target_modules=["c_attn", "c_proj", "wte"], fan_in_fan_out=True)),
    "embedding": ("llama", lora(target_modules=["embed_tokens", "q_proj"])),
    "convolutions": ("convs", lora(target_modules=CONVS)),
    "attention": ("attention", lora(target_modules=["attn"])),
    "lora_bias": ("bert", lora(target_modules=["query", "value"], lora_bias=True)),
    "bias=lora_only": ("bert", lora(target_modules=["query", "value"], bias="lora_only", task_type="SEQ_CLS")),
    "bias=all": ("bert", lora(target_modules=["query", "value"], bias="all", task_type="SEQ_CLS")),
    "modules_to_save": ("llama", lora(target_modules=QV, modules_to_save=["embed_tokens", "lm_head", "norm"])),
    "trainable tokens": ("llama", lora(target_modules=QV, trainable_token_indices=[1, 5, 7])),
    "tied trainable tokens": ("llama-tied", lora(target_modules=QV, trainable_token_indices=[1, 5, 7])),
    "dora": ("llama", lora(target_modules=QV, use_dora=True)),
    "dora on Conv1D": ("gpt2", lora(target_modules=["c_attn"], use_dora=True, fan_in_fan_out=True)),
    "dora everywhere": ("convs", lora(target_modules=["conv2", "emb", "lin"], use_dora=True, use_rslora=True)),
    "pissa": ("llama", lora(target_modules=QV, init_lora_weights="pissa")),
    "olora": ("llama", lora(target_modules=QV, init_lora_weights="olora", use_rslora=True)),
    "gaussian": ("llama", lora(target_modules=QV, init_lora_weights="gaussian")),
    "adalora": ("llama", other("AdaLoraConfig", target_modules=QV, init_r=6, target_r=3, total_step=10, lora_alpha=5)),
    "vera": ("llama", other("VeraConfig", target_modules=QV, r=4)),
    "vera without projection": (
        "llama",
        other("VeraConfig", target_modules=[*QV, "down_proj"], r=4, save_projection=False, projection_prng_key=7),
    ),
    "loha": ("llama", other("LoHaConfig", target_modules=QV, r=3, alpha=5)),
    "loha of high rank": ("llama", other("LoHaConfig", target_modules=QV, r=5, alpha=5, rank_pattern={"v_proj": 2})),
    "loha on convolutions": (
        "convs", other("LoHaConfig", target_modules=[*FLAT, "lin"], r=3, use_effective_conv2d=True)
    ),
    "loha on flat convolutions": ("convs", other("LoHaConfig", target_modules=FLAT, r=3)),
    "lokr": ("llama", other("LoKrConfig", target_modules=QV, r=2, alpha=5)),
    "lokr of two products": ("llama", other("LoKrConfig", target_modules=QV, r=1, alpha=5, decompose_both=True)),
    "lokr on convolutions": (
        "convs", other("LoKrConfig", target_modules=["conv2", "lin"], r=1, use_effective_conv2d=True)
    ),
    "lokr on flat convolutions": ("convs", other("LoKrConfig", target_modules=FLAT, r=1)),
    "lokr of whole kernels": ("convs", other("LoKrConfig", target_modules=FLAT, r=6, decompose_both=True)),
    "ia3": ("llama", other("IA3Config", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "ia3 with biases": (
        "bert", other("IA3Config", target_modules=["query", "intermediate.dense"], feedforward_modules=[])
    ),
    "ia3 on Conv1D": (
        "gpt2", other("IA3Config", target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"])
    ),
    "LN tuning": ("llama", other("LNTuningConfig", target_modules=["input_layernorm"])),
    "trainable tokens alone": (
        "llama", other("TrainableTokensConfig", target_modules=["embed_tokens"], token_indices=[2, 3])
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """`merged` are PEFT's own merged weights; `initial` the adapter as it was before "training"."""

    name: str
    kind: str
    base: Path
    adapter: Path
    initial: Path
    merged: dict[str, Tensor]


def save_trained(folder: Path, kind: str, config: Any, *, seed: int = 0, name: str = "adapter") -> Saved:
    """Make an adapter of any PEFT config on a tiny base, fill it with random values, save it, and merge it."""
    from peft import PeftModel, get_peft_model

    pristine = new_base(kind)
    base = folder / f"base-{kind}"
    if not base.exists():
        save_base(pristine, base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(deepcopy(pristine), config)
        initial = folder / f"{name}-initial"
        model.save_pretrained(initial)
        torch.manual_seed(seed)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if parameter.requires_grad:
                    positive = "magnitude" in key or "ia3" in key
                    parameter.copy_(
                        parameter + 0.2 * torch.rand_like(parameter) if positive else 0.3 * torch.randn_like(parameter)
                    )
        model.save_pretrained(folder / name)
        # merging mutates weights that PEFT may share, so it is done on a model that was loaded anew
        merged = PeftModel.from_pretrained(new_base(kind), folder / name).merge_and_unload()
    weights = {k: v.detach().clone() for k, v in merged.state_dict().items()}
    return Saved(name, kind, base, folder / name, initial, weights)


@pytest.fixture
def make_base() -> Callable[[str], nn.Module]:
    """A new copy of a base, always with the same values."""
    return new_base


@pytest.fixture
def logits() -> Callable[[nn.Module], Tensor]:
    """What a base of any kind, with or without an adapter, computes of a fixed text."""

    def of(model: nn.Module) -> Tensor:
        with torch.no_grad():
            found = model.eval()(input_ids=torch.tensor([[1, 5, 7, 2, 9, 13], [3, 2, 11, 4, 1, 6]]))
        return found if isinstance(found, Tensor) else found.logits

    return of


@pytest.fixture
def peft_saved(tmp_path: Path) -> Callable[..., Saved]:
    """`peft_saved(kind, config, seed=0, name="adapter")`: see `save_trained`."""
    return partial(save_trained, tmp_path)


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Every row of FAMILIES, saved by PEFT once for all tests."""
    kind, config = FAMILIES[request.param]
    return replace(save_trained(tmp_path_factory.mktemp("family"), kind, config()), name=request.param)
