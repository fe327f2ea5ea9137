"""Adds an adapter to its base model: W' = W + s B A for every module, written as a base model folder of its own.

The sum is made in float32 and rounded once to the dtype of W. Weights files stay as they are split; one is in memory at
a time. Tensors that the adapter does not change are copied as they are.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from .adapter import Factors, LoraAdapter
from .base_model import file_headers, locate, read_base_config, weight_files
from .errors import BaseModelError, IncompatibleAdapters, OutputExists

CONV1D_MODELS = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
CONV1D_LAYERS = frozenset({"c_attn", "c_proj", "c_fc", "q_attn"})
"""Where transformers keeps weights as (in, out). Decided by name: the shape of a square weight does not tell."""

OTHER_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".ot", ".onnx"})
"""Endings of files that hold the unchanged weights once more, and are left out."""


@dataclass(frozen=True)
class FuseReport:
    """`changed` are the tensors that the adapter changed; `max_rounding` the largest |rounded - float32| among them."""

    directory: Path
    changed: tuple[str, ...]
    max_rounding: float


def fuse(base_directory: Path, adapter: LoraAdapter, out_directory: Path) -> FuseReport:
    """Write base plus adapter into `out_directory`, which must be absent or an empty folder.

    Raises `IncompatibleAdapters` where a module is missing in the base or has another shape, `OutputExists`, and
    `BaseModelError` for a base that is quantised or cannot be read.
    """
    if out_directory.exists() and (not out_directory.is_dir() or any(out_directory.iterdir())):
        raise OutputExists(f"{out_directory} exists and is not empty", remedy="give another folder")
    config = read_base_config(base_directory)
    if config.get("quantization_config"):
        raise BaseModelError(
            f"{base_directory.name}: is quantised, so that adding to it would round a second time",
            remedy="fuse into the full-precision base",
        )
    files = weight_files(base_directory)
    shapes = {name: header.shape for file in files for name, header in file_headers(file).items()}
    model_type = str(config.get("model_type"))
    changes = _plan(adapter, shapes, model_type, tied=bool(config.get("tie_word_embeddings")))
    out_directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = out_directory.parent / f".{out_directory.name}.{secrets.token_hex(4)}.partial"
    scratch.mkdir()
    try:
        largest = max(_fuse_file(file, scratch / file.name, changes) for file in files)
        for other in sorted(base_directory.iterdir()):
            if other.is_file() and other.suffix not in OTHER_WEIGHTS:
                shutil.copyfile(other, scratch / other.name)
        scratch.replace(out_directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return FuseReport(out_directory, tuple(sorted(changes)), largest)


@dataclass(frozen=True)
class _Change:
    """What is added to one weight; `transposed` where the weight is (in, out)."""

    factors: Factors
    transposed: bool

    def delta(self) -> Tensor:
        dense = self.factors.delta()
        return dense.T if self.transposed else dense


def _plan(
    adapter: LoraAdapter, shapes: Mapping[str, tuple[int, ...]], model_type: str, *, tied: bool
) -> dict[str, _Change]:
    """Tensor name -> its change; everything is checked here, before anything is written."""
    places = locate(adapter.modules, shapes)
    changes: dict[str, _Change] = {}
    for path, factors in adapter.modules.items():
        last = path.rpartition(".")[2]
        if len(places[path]) != 1 or (tied and last in ("lm_head", "embed_out")):
            found = "is tied to the embedding" if tied and places[path] else f"has {len(places[path])} tensors"
            raise IncompatibleAdapters(
                f"{adapter.name}: module {path} {found} in the base, expected one of its own",
                remedy="check that the adapter is for this base",
            )
        name = places[path][0]
        transposed = model_type in CONV1D_MODELS and last in CONV1D_LAYERS
        expected = (factors.out_features, factors.in_features)
        if shapes[name] != (expected[::-1] if transposed else expected):
            raise IncompatibleAdapters(
                f"{adapter.name}: {name} of the base has shape {shapes[name]}, the adapter needs "
                f"{expected[::-1] if transposed else expected}",
                remedy="check that the adapter is for this base",
            )
        changes[name] = _Change(factors, transposed)
    return changes


def _fuse_file(source: Path, target: Path, changes: Mapping[str, _Change]) -> float:
    """Write one weights file with its changes; the largest rounding, 0 where nothing in it changes."""
    tensors: dict[str, Tensor] = {}
    largest = 0.0
    with safetensors.safe_open(source, framework="pt") as file:
        metadata = file.metadata()
        for name in file.keys():  # noqa: SIM118 - not a dict
            tensors[name] = file.get_tensor(name)
            if name in changes:
                tensors[name], change = _add(tensors[name], changes[name], name)
                largest = max(largest, change)
    save_file(tensors, target, metadata=metadata)
    return largest


def _add(weight: Tensor, change: _Change, name: str) -> tuple[Tensor, float]:
    if not weight.is_floating_point():
        raise BaseModelError(f"{name} of the base has dtype {weight.dtype}, expected floating point")
    exact = weight.to(torch.float32) + change.delta()
    rounded = exact.to(weight.dtype).contiguous()
    return rounded, (rounded.to(torch.float32) - exact).abs().max().item()
