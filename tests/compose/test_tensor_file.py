"""A file of tensors is read once, and every way of reading it gives the same values and the same refusals."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from compose.errors import MalformedAdapter
from compose.safetensors_header import read_header
from compose.tensor_file import TensorFile


def opened(path: Path) -> TensorFile:
    return TensorFile(path, read_header(path), owner="mine")


def tensors(dtype: torch.dtype) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(3)
    return {name: torch.randn(3, 5, generator=random).to(dtype) for name in ("b", "a", "c")}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_values_come_as_float32_under_their_names(tmp_path: Path, dtype: torch.dtype) -> None:
    path, stored = tmp_path / "x.safetensors", tensors(dtype)
    save_file(stored, path)
    file = opened(path)
    for name, values in stored.items():
        assert torch.equal(file.tensor(name), values.float())


def test_files_of_several_dtypes_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    stored = {"one": torch.ones(3, dtype=torch.float16), "two": torch.full((2, 2), 2.0)}
    save_file(stored, path)
    assert torch.equal(opened(path).tensor("two"), stored["two"])


def test_data_that_does_not_begin_at_a_multiple_of_its_width_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.arange(6.0)}, path)
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    path.write_bytes(struct.pack("<Q", length + 1) + raw[8 : 8 + length] + b" " + raw[8 + length :])
    assert torch.equal(opened(path).tensor("a"), torch.arange(6.0))


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "NaN"), (float("inf"), "infinite values")])
def test_the_tensor_that_holds_nan_is_named_and_the_others_can_be_read(tmp_path: Path, value: float, said: str) -> None:
    path, stored = tmp_path / "x.safetensors", tensors(torch.float32)
    stored["c"][1, 2] = value
    save_file(stored, path)
    file = opened(path)
    assert torch.equal(file.tensor("a"), stored["a"])
    with pytest.raises(MalformedAdapter, match=f"mine: tensor c holds {said}"):
        file.tensor("c")


def test_large_finite_values_whose_sum_overflows_are_no_error(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.full((4,), 3e38)}, path)
    assert torch.equal(opened(path).tensor("a"), torch.full((4,), 3e38))


def test_what_was_read_does_not_change_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(4)}, path)
    found = opened(path).tensor("a")
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(found, torch.ones(4))


def test_a_file_that_became_shorter_or_is_gone_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(4)}, path)
    headers = read_header(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MalformedAdapter, match="became shorter"):
        TensorFile(path, headers, owner="mine")
    path.unlink()
    with pytest.raises(MalformedAdapter, match="cannot be read"):
        TensorFile(path, headers, owner="mine")
