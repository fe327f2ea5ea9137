"""An adapter as PEFT stores it: names, shapes and config. Scaling is 1: it is folded into B before.

Targets are full module paths: a short name such as `q` would also match layers that the adapter does not have. Nothing
is rounded and no file written here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .adapter import ATTENTION, CONV, EMBEDDING, Factors, LoraAdapter
from .errors import UnsupportedAdapter
from .module_shapes import ATTENTION_OUT_TIMES
from .peft_keys import FUSED_OUT, PREFIX, write_key

Tensors = dict[str, Tensor]


def lora_tensors(adapter: LoraAdapter, modules: Mapping[str, Factors]) -> Tensors:
    """Name -> tensor for everything that the adapter holds; `modules` are its factors at the ranks to be written."""
    if adapter.multipliers:
        return {f"{PREFIX}{path}.ia3_l": _ia3(m.values, m.side) for path, m in sorted(adapter.multipliers.items())}
    tensors: Tensors = {}
    for path, factors in modules.items():
        tensors |= _module(path, factors, modules)
    tensors |= _biases(adapter, modules)
    for name, held in sorted(adapter.replaced.items()):
        tensors[_replaced_key(name, held.kind, modules)] = held.values
    return tensors


def _module(path: str, factors: Factors, modules: Mapping[str, Factors]) -> Tensors:
    a, b = factors.A, factors.B
    if factors.kind == EMBEDDING:
        return {f"{PREFIX}{path}.lora_embedding_A": a, f"{PREFIX}{path}.lora_embedding_B": b}
    if factors.kind == CONV:
        a = a.view(factors.rank, -1, *factors.kernel)
        b = b.view(*b.shape, *(1 for _ in factors.kernel))
    if is_attention_out(path, modules):
        path, b = path.removesuffix(".out_proj") + FUSED_OUT, b / ATTENTION_OUT_TIMES
    return {write_key(path, "A"): a, write_key(path, "B"): b}


def is_attention_out(path: str, modules: Mapping[str, Factors]) -> bool:
    """Whether this is the output projection of an nn.MultiheadAttention that is changed too."""
    parent = modules.get(path.removesuffix(".out_proj"))
    return path.endswith(".out_proj") and parent is not None and parent.kind == ATTENTION


def _biases(adapter: LoraAdapter, modules: Mapping[str, Factors]) -> Tensors:
    """lora_bias is all or none: modules without a bias change get one of zeros."""
    if not adapter.biases:
        return {}
    for path, factors in modules.items():
        if factors.kind in (EMBEDDING, ATTENTION):
            raise UnsupportedAdapter(
                f"{adapter.name}: PEFT cannot hold bias changes (lora_bias) beside {path} ({factors.kind})",
                remedy="write the base model with the adapter in it: --fused",
            )
    return {
        f"{PREFIX}{path}.lora_B.bias": adapter.biases.get(path, torch.zeros(factors.out_features))
        for path, factors in modules.items()
    }


def _replaced_key(name: str, kind: str, modules: Mapping[str, Factors]) -> str:
    path, _, part = name.rpartition(".")
    if kind == "tokens":
        return f"{PREFIX}{path}.token_adapter.trainable_tokens_delta"
    return f"{PREFIX}{path}.base_layer.{part}" if path in modules else f"{PREFIX}{name}"


def _ia3(values: Tensor, side: str) -> Tensor:
    return values[:, None] if side == "out" else values[None]


def lora_config(adapter: LoraAdapter, modules: Mapping[str, Factors]) -> dict[str, object]:
    """adapter_config.json with the fields that every PEFT since 0.5 knows, and newer ones where they are needed."""
    if adapter.multipliers:
        return _ia3_config(adapter)
    rank = max(factors.rank for factors in modules.values())
    pattern = {f"^{re.escape(path)}$": f.rank for path, f in modules.items() if f.rank != rank}
    config: dict[str, object] = {
        **_shared(adapter),
        "alpha_pattern": pattern,
        "bias": _bias(adapter, modules),
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": _saved(adapter) or None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": pattern,
        "target_modules": [path for path in sorted(modules) if not is_attention_out(path, modules)],
        "use_rslora": False,
    }
    if adapter.biases:
        config["lora_bias"] = True
    tokens = {n.rpartition(".")[0]: list(r.rows) for n, r in adapter.replaced.items() if r.rows is not None}
    if tokens:
        config["trainable_token_indices"] = tokens
    return config


def _ia3_config(adapter: LoraAdapter) -> dict[str, object]:
    paths = sorted(adapter.multipliers)
    return {
        **_shared(adapter),
        "feedforward_modules": [path for path in paths if adapter.multipliers[path].side == "in"],
        "init_ia3_weights": True,
        "modules_to_save": None,
        "peft_type": "IA3",
        "target_modules": paths,
    }


def _shared(adapter: LoraAdapter) -> dict[str, object]:
    return {
        "auto_mapping": None,
        "base_model_name_or_path": adapter.base_model,
        "fan_in_fan_out": adapter.fan_in_fan_out,
        "inference_mode": True,
        "revision": None,
        "task_type": adapter.task_type,
    }


def _saved(adapter: LoraAdapter) -> list[str]:
    names = (name for name, held in adapter.replaced.items() if held.kind == "modules_to_save")
    return sorted({name.rpartition(".")[0] for name in names})


def _bias(adapter: LoraAdapter, modules: Mapping[str, Factors]) -> str:
    paths = [name.rpartition(".")[0] for name, held in adapter.replaced.items() if held.kind == "bias"]
    return "none" if not paths else "lora_only" if all(path in modules for path in paths) else "all"
