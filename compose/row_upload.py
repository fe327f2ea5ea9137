"""A matrix that is made row by row on the host and kept on a device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Fill = Callable[[int, Tensor], None]
"""(number of the row, the row to fill in place)"""


def filled_rows(
    count: int, width: int, fill: Fill, *, dtype: torch.dtype, device: torch.device, staged: bool | None = None
) -> Tensor:
    """(count, width) on `device`. On a GPU (`staged`) a row is made in page-locked memory and travels while the next
    one is made; two such rows are all that the host holds."""
    if staged if staged is not None else device.type == "cuda":
        return _staged(count, width, fill, dtype, device)
    matrix = torch.empty(count, width, dtype=dtype)
    for number, row in enumerate(matrix):
        fill(number, row)
    return matrix.to(device)


def _staged(count: int, width: int, fill: Fill, dtype: torch.dtype, device: torch.device) -> Tensor:
    gpu = device.type == "cuda"
    matrix = torch.empty(count, width, dtype=dtype, device=device)
    buffers = [torch.empty(width, dtype=dtype, pin_memory=gpu) for _ in range(min(2, count))]
    copied: list[torch.cuda.Event | None] = [None] * len(buffers)
    for number in range(count):
        turn = number % len(buffers)
        if (event := copied[turn]) is not None:
            event.synchronize()  # what the buffer held has arrived
        fill(number, buffers[turn])
        matrix[number].copy_(buffers[turn], non_blocking=True)
        if gpu:
            copied[turn] = torch.cuda.current_stream(device).record_event()
    return matrix
