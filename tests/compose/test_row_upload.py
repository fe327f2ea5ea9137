"""Tensors that travel to a device through two buffers arrive as those that are filled where they lie."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor

from compose.row_upload import filled_rows, filled_tensors

CPU = torch.device("cpu")
SHAPES = [(2, 3), (5, 1), (0, 4), (3, 4), (1, 1), (2, 6)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_rows_that_travel_while_the_next_is_made_all_arrive(count: int) -> None:
    made: list[int] = []

    def fill(number: int, row: Tensor) -> None:
        made.append(row.data_ptr())
        torch.arange(number, number + 4, out=row)

    staged, plain = (filled_rows(count, 4, fill, dtype=torch.float32, device=CPU, staged=s) for s in (True, False))
    assert torch.equal(staged, plain) and staged[-1].tolist() == [count - 1, count, count + 1, count + 2]
    assert len(set(made[:count])) == min(2, count), "two buffers in turn"


@pytest.mark.parametrize("staged", [True, False])
def test_tensors_of_several_shapes_arrive_in_their_own(staged: bool) -> None:
    def fill(number: int, whole: Tensor) -> None:
        whole.copy_(torch.arange(whole.numel()).view(whole.shape) + 100 * number)

    found = filled_tensors(SHAPES, fill, dtype=torch.float64, device=CPU, staged=staged)
    for number, (tensor, shape) in enumerate(zip(found, SHAPES, strict=True)):
        assert tensor.shape == shape and tensor.dtype == torch.float64
        assert tensor.flatten().tolist() == [100 * number + i for i in range(prod(shape))]
    assert filled_tensors([], fill, dtype=torch.float64, device=CPU, staged=staged) == []


@pytest.mark.gpu
def test_on_a_gpu_rows_and_tensors_arrive_whole() -> None:
    def fill(number: int, whole: Tensor) -> None:
        whole.fill_(number)

    device = torch.device("cuda")
    rows = filled_rows(40, 1 << 20, fill, dtype=torch.float32, device=device)
    assert torch.equal(rows.mean(1).cpu(), torch.arange(40.0))
    shapes = [(1 << (10 + i % 11), 1 + i % 3) for i in range(40)]
    for number, tensor in enumerate(filled_tensors(shapes, fill, dtype=torch.float32, device=device)):
        assert bool((tensor == number).all())
