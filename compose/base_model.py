"""What a base model is: an identity made of its architecture and its tensors' names and shapes. Never a name or a path.

Reads config.json and safetensors headers only; a base of any size takes milliseconds and no torch. Only
`tensors_digest` reads the weights, as a stream.

The architecture rule: of config.json count `model_type` and the sizes named in SIZES, where not null (also inside
nested configs such as `text_config`). Everything else describes how a copy is run or labelled, not what it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from .base_shapes import locate as locate
from .base_shapes import locate_weight
from .description import AdapterDescription
from .errors import BaseModelError, MalformedAdapter
from .safetensors_header import TensorHeader, read_header

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CHUNK = 1 << 20

SIZES = frozenset(
    [
        "d_ff",
        "d_kv",
        "d_model",
        "decoder_attention_heads",
        "decoder_ffn_dim",
        "decoder_layers",
        "dim",
        "embedding_size",
        "encoder_attention_heads",
        "encoder_ffn_dim",
        "encoder_layers",
        "ffn_dim",
        "head_dim",
        "hidden_dim",
        "hidden_size",
        "intermediate_size",
        "is_encoder_decoder",
        "kv_lora_rank",
        "max_position_embeddings",
        "moe_intermediate_size",
        "n_ctx",
        "n_embd",
        "n_head",
        "n_heads",
        "n_inner",
        "n_layer",
        "n_layers",
        "n_positions",
        "n_routed_experts",
        "num_attention_heads",
        "num_decoder_layers",
        "num_experts",
        "num_experts_per_tok",
        "num_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "num_layers",
        "num_local_experts",
        "q_lora_rank",
        "relative_attention_num_buckets",
        "type_vocab_size",
        "vocab_size",
        "word_embed_proj_dim",
    ]
)


@dataclass(frozen=True)
class BaseFingerprint:
    """`digest` (sha256, hex) is the same for two copies of one architecture with the same tensor names and shapes."""

    digest: str
    architecture: Mapping[str, object]
    shapes: Mapping[str, tuple[int, ...]]
    parameter_count: int


@dataclass(frozen=True)
class Misfit:
    """A module whose weight exists in the base in another shape; both as (out, in)."""

    path: str
    expected: tuple[int, int]
    found: tuple[int, ...]


@dataclass(frozen=True)
class BaseFit:
    """How many of an adapter's modules a base has: paths `matched`, paths `missing`, and those of another shape."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    misfit: tuple[Misfit, ...]


def fingerprint(directory: Path) -> BaseFingerprint:
    """The identity of the base model in `directory` (config.json with one or several safetensors files)."""
    architecture = architecture_of(read_base_config(directory))
    headers = {name: header for file in weight_files(directory) for name, header in file_headers(file).items()}
    shapes = {name: headers[name].shape for name in sorted(headers)}
    canonical = json.dumps(
        {"architecture": architecture, "tensors": [[name, list(shape)] for name, shape in shapes.items()]},
        sort_keys=True,
        separators=(",", ":"),
    )
    digest = hashlib.sha256(canonical.encode("ascii")).hexdigest()
    return BaseFingerprint(digest, architecture, shapes, sum(prod(shape) for shape in shapes.values()))


def architecture_of(config: Mapping[str, object]) -> dict[str, object]:
    """The part of a config.json that makes the identity (see the rule on top)."""
    kept: dict[str, object] = {}
    for key, value in config.items():
        if key == "model_type" or (key in SIZES and value is not None):
            kept[key] = value
        elif isinstance(value, Mapping) and key != "quantization_config" and (inner := architecture_of(value)):
            kept[key] = inner
    return kept


def read_base_config(directory: Path) -> dict[str, object]:
    """config.json of a base model as an object, else `BaseModelError`."""
    path = directory / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise BaseModelError(
            f"{directory.name}: cannot read config.json: {error.strerror}", remedy="give a model folder, not an adapter"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BaseModelError(f"{directory.name}: config.json is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise BaseModelError(f"{directory.name}: config.json holds a {type(config).__name__}, expected an object")
    return config


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The safetensors files of the base, sorted by name: one, or the shards that its index lists."""
    if (directory / WEIGHTS).is_file():
        return (directory / WEIGHTS,)
    if not (directory / INDEX).is_file():
        raise BaseModelError(
            f"{directory.name}: has no {WEIGHTS} and no {INDEX}",
            remedy="save the base with transformers: model.save_pretrained(folder)",
        )
    try:
        weight_map = json.loads((directory / INDEX).read_bytes())["weight_map"]
        names = sorted(set(weight_map.values()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BaseModelError(f"{directory.name}: {INDEX} cannot be read ({error!r})") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (directory / name).is_file():
            raise BaseModelError(f"{directory.name}: {INDEX} names the shard {name!r}, which is not in the folder")
    return tuple(directory / name for name in names)


def file_headers(file: Path) -> dict[str, TensorHeader]:
    """The header of one weights file of a base; a damaged one is `BaseModelError`."""
    try:
        return read_header(file, owner=f"{file.parent.name}/{file.name}")
    except MalformedAdapter as error:
        raise BaseModelError(error.message, remedy=error.remedy) from error


def tensors_digest(directory: Path, *, per_tensor: int | None = None) -> str:
    """sha256 (hex) over all tensors of the base, by name with dtype and shape, however they are spread over files.

    `per_tensor` limits how many bytes of each tensor are read, from its start: training changes all of a weight, so
    that a sample tells fine-tunes apart without reading a model of many gigabytes.
    """
    places = {name: (file, header) for file in weight_files(directory) for name, header in file_headers(file).items()}
    digest = hashlib.sha256()
    for name in sorted(places):
        file, header = places[name]
        digest.update(json.dumps([name, header.dtype, list(header.shape)]).encode("ascii"))
        with file.open("rb") as stream:
            stream.seek(header.start)
            left = header.size if per_tensor is None else min(per_tensor, header.size)
            while left and (chunk := stream.read(min(CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
    return digest.hexdigest()


def fit(description: AdapterDescription, shapes: Mapping[str, tuple[int, ...]]) -> BaseFit:
    """Which modules of the adapter find a weight of fitting shape in the base: (out, in), or (in, out) as in Conv1D and
    embeddings; a convolution's counts from its second dimension on as one."""
    places = {module.path: locate_weight(module.path, module.kind, shapes) for module in description.modules}
    matched, missing, misfit = [], [], []
    for module in description.modules:
        expected = (module.out_features, module.in_features)
        found = [shapes[name] for name in places[module.path]]
        if any(_fits(expected, shape, module.kind) for shape in found):
            matched.append(module.path)
        elif found:
            misfit.append(Misfit(module.path, expected, found[0]))
        else:
            missing.append(module.path)
    return BaseFit(tuple(matched), tuple(missing), tuple(misfit))


def _fits(expected: tuple[int, int], shape: tuple[int, ...], kind: str) -> bool:
    if kind in ("out", "in"):  # a multiplier: one side only, and either way round
        return max(expected) in shape
    flat = (shape[0], prod(shape[1:])) if shape else ()
    return flat in (expected, expected[::-1]) if len(shape) == 2 else flat == expected
