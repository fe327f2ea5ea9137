"""An adapter in the names that image tools read: kohya's, and those of diffusers. alpha = rank is written out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .adapter import CONV, LINEAR, Factors, LoraAdapter
from .errors import UnsupportedAdapter
from .kohya_names import kohya_name


def kohya_tensors(adapter: LoraAdapter, modules: Mapping[str, Factors]) -> dict[str, Tensor]:
    """`lora_unet_..._to_q.lora_down.weight`, `.lora_up.weight`, `.alpha`."""
    _only_weights(adapter, modules)
    return {
        f"{kohya_name(path)}.{part}": tensor
        for path, factors in modules.items()
        for part, tensor in _parts(factors, "lora_down.weight", "lora_up.weight").items()
    }


def diffusers_tensors(adapter: LoraAdapter, modules: Mapping[str, Factors]) -> dict[str, Tensor]:
    """`unet....to_q.lora.down.weight`, `.lora.up.weight`, `.alpha`; a path without an owner is the UNet's."""
    _only_weights(adapter, modules)
    owners = ("unet.", "text_encoder.", "text_encoder_2.", "transformer.")
    return {
        f"{path if path.startswith(owners) else f'unet.{path}'}.{part}": tensor
        for path, factors in modules.items()
        for part, tensor in _parts(factors, "lora.down.weight", "lora.up.weight").items()
    }


def _parts(factors: Factors, down: str, up: str) -> dict[str, Tensor]:
    a, b = factors.A, factors.B
    if factors.kind == CONV:
        a = a.view(factors.rank, -1, *factors.kernel)
        b = b.view(*b.shape, *(1 for _ in factors.kernel))
    return {"alpha": torch.tensor(float(factors.rank)), down: a, up: b}


def _only_weights(adapter: LoraAdapter, modules: Mapping[str, Factors]) -> None:
    other = next((path for path, f in modules.items() if f.kind not in (LINEAR, CONV)), None)
    if other or adapter.biases or adapter.replaced or adapter.multipliers or not modules:
        raise UnsupportedAdapter(
            f"{adapter.name}: {other or 'what it holds besides low-rank changes'} has no name in the files of kohya "
            "and diffusers, which are for linear layers and convolutions",
            remedy="use profile peft-uniform, or --fused",
        )
