"""The header is checked before anything is loaded: each way to lie about a file is a named error."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from compose.errors import MalformedAdapter
from compose.safetensors_header import MAX_HEADER, read_header


def blob(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(shape: Any = (2,), offsets: Any = (0, 8), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_names_shapes_dtypes_and_places_are_those_that_safetensors_wrote(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(2, 3),
        "b.c": torch.ones(4, dtype=torch.bfloat16),
        "d": torch.tensor(1.0, dtype=torch.float64),
    }
    save_file(tensors, tmp_path / "x", metadata={"format": "pt"})
    found = read_header(tmp_path / "x")
    assert {key: (h.dtype, h.shape) for key, h in found.items()} == {
        key: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for key, t in tensors.items()
    }
    raw = (tmp_path / "x").read_bytes()
    assert raw[found["a"].start :][: found["a"].size] == tensors["a"].numpy().tobytes()


BAD = {
    "nothing at all": (b"", "cut short"),
    "seven bytes": (b"1234567", "cut short"),
    "header longer than the file": (blob({"a": entry()}, bytes(8))[:20], "cut short"),
    "data cut off": (blob({"a": entry()}, bytes(7)), "cut short"),
    "data left over": (blob({"a": entry()}, bytes(9)), "belong to no tensor"),
    "header bomb": ((2**63).to_bytes(8, "little") + b"{}", "at most"),
    "header just too long": ((MAX_HEADER + 1).to_bytes(8, "little") + b"{}", "at most"),
    "no JSON": (blob(b"{nope"), "cannot be read"),
    "not UTF-8": (blob(b'{"\xff": 1}'), "cannot be read"),
    "deep nesting": (blob(b"[" * 100_000), "cannot be read"),
    "a list": (blob([]), "no JSON object"),
    "twin keys": (blob(b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)), "stands twice"),
    "unknown dtype": (blob({"a": entry(dtype="F7")}, bytes(8)), "unknown dtype"),
    "dtype of another type": (blob({"a": entry(dtype=[1])}, bytes(8)), "unknown dtype"),
    "negative shape": (blob({"a": entry(shape=[-2])}, bytes(8)), "impossible shape"),
    "fractional shape": (blob({"a": entry(shape=[2.0])}, bytes(8)), "impossible shape"),
    "shape of another size": (blob({"a": entry(shape=[3])}, bytes(8)), "needs 12"),
    "huge shape": (blob({"a": entry(shape=[2**62, 2**62])}, bytes(8)), "needs"),
    "offsets backwards": (blob({"a": entry(offsets=[8, 0])}, bytes(8)), "holds -8 bytes"),
    "one offset": (blob({"a": entry(offsets=[8])}, bytes(8)), "impossible offsets"),
    "overlap": (blob({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)), "overlaps"),
    "hole": (blob({"a": entry(), "b": entry(offsets=[12, 20])}, bytes(20)), "hole"),
    "entry is a text": (blob({"a": "x"}), "no object"),
    "control characters in a name": (blob({"a\x1b[2J": entry()}, bytes(8)), "impossible name"),
    "endless name": (blob({"a" * 10_000: entry()}, bytes(8)), "impossible name"),
    "metadata of numbers": (blob({"__metadata__": {"a": 1}}), "__metadata__"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
    "zipped pickle": (b"PK\x03\x04" + bytes(20), "pickle"),
    "old pickle": (b"\x80\x02}q\x00." + bytes(20), "pickle"),
}


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD.keys())
def test_damaged_and_lying_files_are_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(MalformedAdapter, match=said) as caught:
        read_header(tmp_path / "weights", owner="ns/name")
    assert "ns/name" in caught.value.message
    assert len(caught.value.message) < 1000


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MalformedAdapter, match="cannot read the weights"):
        read_header(tmp_path / "absent")


def test_only_the_header_is_read(tmp_path: Path) -> None:
    """A sparse file of 64 GB with one tensor is described at once."""
    size = 64 * 2**30
    raw = blob({"a": entry(shape=[size // 4], offsets=[0, size])})
    (tmp_path / "big").write_bytes(raw)
    os.truncate(tmp_path / "big", len(raw) + size)
    assert read_header(tmp_path / "big")["a"].shape == (size // 4,)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 150), value=st.integers(0, 255))
def test_any_changed_byte_gives_a_header_or_one_clear_error(tmp_path: Path, position: int, value: int) -> None:
    raw = bytearray(save({"layer.lora_A.weight": torch.zeros(2, 3), "layer.lora_B.weight": torch.zeros(4, 2)}))
    raw[position] = value
    (tmp_path / "x").write_bytes(raw)
    try:
        read_header(tmp_path / "x")
    except MalformedAdapter as error:
        assert error.message
