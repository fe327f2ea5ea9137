"""What torch can compute with on a device, asked before anything slow is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from .errors import BaseModelError, SearchError

AUTO = "auto"
"""A base spread over all devices, layer by layer, as accelerate finds room for it."""


def check_device(device: str) -> None:
    """`BaseModelError` unless a tensor can be made on `device` ("cpu", "cuda", "cuda:1", ...) and read back; `auto`
    needs accelerate. `SearchError` for a word that is no device on any machine."""
    if device == AUTO:
        if find_spec("accelerate") is None:
            raise BaseModelError(
                "a base on several devices (--device auto) needs accelerate", remedy='pip install "mixhub[gpu]"'
            )
        return
    try:
        torch.device(device)
    except RuntimeError as error:
        raise SearchError(f"{device!r} is no device", remedy="use --device cpu, cuda, cuda:1 or auto") from error
    try:
        torch.zeros(1, device=device).item()
    # torch says "not compiled with CUDA" by an AssertionError
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        usable = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise BaseModelError(
            f"the device {device!r} cannot be used here: {reason}", remedy=f"use --device {' or '.join(usable)}"
        ) from error


def device_of(module: nn.Module) -> torch.device:
    """Where `module` computes. Where accelerate spread the model, its hook says so: the weights may lie elsewhere until
    then, on the CPU or on disk (then their own device is `meta`)."""
    hook: Any = getattr(module, "_hf_hook", None)
    for one in (hook, *getattr(hook, "hooks", ())):
        if getattr(one, "execution_device", None) is not None:
            return torch.device(one.execution_device)
    first = next(module.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def input_device(model: Any) -> torch.device:
    """Where `model` takes its tokens."""
    return device_of(model.get_input_embeddings())


def compute_devices(model: nn.Module) -> set[torch.device]:
    """All devices that modules of `model` compute on."""
    return {device_of(module) for module in model.modules() if next(module.parameters(recurse=False), None) is not None}


def has_bfloat16(device: str) -> bool:
    """Whether `device` multiplies bfloat16 matrices in hardware; elsewhere bfloat16 is emulated and slower."""
    if device == AUTO:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if torch.device(device).type == "cuda":
        with torch.cuda.device(device):  # it tells of the current one
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if torch.device(device).type != "cpu":
        return False
    # older torch cannot tell: then float32 is the safe answer
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


TF32 = "tf32"
"""Weights and sums in float32, products of matrices by a GPU's units that read 10 bits of the mantissa."""

DTYPES = ("float32", TF32, "bfloat16", "auto")


def has_tf32(device: str) -> bool:
    """Whether `device` is a GPU with such units (NVIDIA's since Ampere)."""
    gpu = torch.cuda.is_available() and (device == AUTO or torch.device(device).type == "cuda")
    return gpu and torch.cuda.get_device_capability(None if device == AUTO else device)[0] >= 8


@contextmanager
def products(*, tf32: bool) -> Iterator[None]:
    """While open, float32 products may be taken in TF32, or may not. The setting is the process's, and is put back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def scoring_dtype(wanted: str, device: str) -> str:
    """The number format to score in: `auto` is bfloat16 where `device` computes in it, else float32. `SearchError`
    for another name, `BaseModelError` for tf32 on a device without it."""
    if wanted not in DTYPES:
        raise SearchError(f"there is no dtype {wanted!r} to score in", remedy=f"use --dtype {' or '.join(DTYPES)}")
    if wanted == TF32 and not has_tf32(device):
        raise BaseModelError(
            f"{device} has no TF32 arithmetic", remedy="use --dtype float32, or --device cuda with a GPU that has it"
        )
    if wanted != "auto":
        return wanted
    return "bfloat16" if has_bfloat16(device) else "float32"
