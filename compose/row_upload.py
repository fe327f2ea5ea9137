"""Tensors that are made one after the other on the host and kept on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

Fill = Callable[[int, Tensor], None]
"""(number of the tensor, the tensor to fill in place; what it holds before is undefined)"""


def filled_rows(
    count: int, width: int, fill: Fill, *, dtype: torch.dtype, device: torch.device, staged: bool | None = None
) -> Tensor:
    """(count, width) on `device`, filled row by row; otherwise as `filled_tensors`."""
    matrix = torch.empty(count, width, dtype=dtype, device=device)
    _fill_all(list(matrix), fill, staged)
    return matrix


def filled_tensors(
    shapes: Sequence[tuple[int, ...]],
    fill: Fill,
    *,
    dtype: torch.dtype,
    device: torch.device,
    staged: bool | None = None,
) -> list[Tensor]:
    """A tensor on `device` for each of `shapes`. On a CPU it is filled where it lies. Elsewhere (`staged`) it is made
    in memory that is page-locked for a GPU, and travels while the next one is made; the host holds two at most."""
    tensors = [torch.empty(shape, dtype=dtype, device=device) for shape in shapes]
    _fill_all(tensors, fill, staged)
    return tensors


def _fill_all(targets: Sequence[Tensor], fill: Fill, staged: bool | None) -> None:
    """`targets` lie on one device and have one dtype."""
    if not targets:
        return
    device, dtype = targets[0].device, targets[0].dtype
    if not (device.type != "cpu" if staged is None else staged):
        for number, target in enumerate(targets):
            fill(number, target)
        return
    gpu = device.type == "cuda"
    size = max(prod(target.shape) for target in targets)
    buffers = [torch.empty(size, dtype=dtype, pin_memory=gpu) for _ in targets[:2]]
    copied: list[torch.cuda.Event | None] = [None] * len(buffers)
    for number, target in enumerate(targets):
        turn = number % len(buffers)
        if (event := copied[turn]) is not None:
            event.synchronize()  # what the buffer held has arrived
        made = buffers[turn][: target.numel()].view(target.shape)
        fill(number, made)
        target.copy_(made, non_blocking=gpu)
        if gpu:
            copied[turn] = torch.cuda.current_stream(device).record_event()
