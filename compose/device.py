"""Whether torch can compute on a device, asked before anything slow is loaded."""

from __future__ import annotations

import torch

from .errors import BaseModelError


def check_device(device: str) -> None:
    """`BaseModelError` unless a tensor can be made on `device` ("cpu", "cuda", "cuda:1", ...) and read back."""
    try:
        torch.zeros(1, device=device).item()
    # torch says "not compiled with CUDA" by an AssertionError
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        usable = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise BaseModelError(
            f"the device {device!r} cannot be used here: {reason}", remedy=f"use --device {' or '.join(usable)}"
        ) from error
