"""Sorts the tensors of an adapter by what they are: parts of modules, shared parts, whole tensors of the base.

Works on names and shapes alone; every tensor must find its place. Needs no torch.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from .errors import MalformedAdapter
from .module_shapes import ModuleShape
from .peft_config import PeftConfig
from .peft_keys import FUSED_OUT, parse_key
from .safetensors_header import TensorHeader

FLOATING = ("float16", "bfloat16", "float32", "float64")
EMBEDDINGS = frozenset(
    {"embed_tokens", "lm_head", "wte", "embed_in", "embed_out", "word_embeddings", "shared", "output"}
)
"""Last names of the modules whose whole weights PEFT saves unasked (peft/utils/constants.py EMBEDDING_LAYER_NAMES)."""

_WHOLE = ("weight", "bias")
_UNTRAINED = ("untrained_weight", "untrained_bias")
_BARE_TYPES = (("hada_", "LOHA"), ("lokr_", "LOKR"))


@dataclass(frozen=True)
class Layout:
    """`modules`: path -> part -> header, sorted by path; `keys`: (path, part) -> the tensor's name in the file."""

    modules: Mapping[str, Mapping[str, TensorHeader]]
    keys: Mapping[tuple[str, str], str]
    shared: Mapping[str, TensorHeader] = field(default_factory=dict)
    replaced: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Tensor name in the base -> (name in the file, kind of replacement)."""
    attentions: frozenset[str] = frozenset()

    def rank_of(self, shape: ModuleShape) -> int:
        """The r that the file's own alpha is divided by: that of the factors as they are stored."""
        parts = self.modules[shape.path]
        for name, axis in (("lora_A", 0), ("embedding_A", 0), ("hada_w1_b", 0), ("lokr_w2_b", 0), ("lokr_w1_b", 0)):
            if name in parts:
                return parts[name].shape[axis]
        return 1


def arrange(headers: Mapping[str, TensorHeader], config: PeftConfig, owner: str) -> Layout:
    """Find the place of every tensor; `MalformedAdapter` names one that has none, or two that share one."""
    keys: dict[tuple[str, str], str] = {}
    for key, header in headers.items():
        place = parse_key(key)
        if place is None or (place.part == "tokens" and not _token_rows(config)):
            raise MalformedAdapter(
                f"{owner}: tensor {key} belongs to no LoRA factor (… .lora_A.weight or .lora_B.weight)"
            )
        if header.dtype not in FLOATING:
            raise MalformedAdapter(
                f"{owner}: tensor {key} has dtype {header.dtype}, expected one of {', '.join(FLOATING)}"
            )
        twin = keys.setdefault((place.path, place.part), key)
        if twin != key and not _same_quirk(twin, key):
            raise MalformedAdapter(
                f"{owner}: tensors {twin} and {key} are both {place.part} of {place.path}",
                remedy="save one adapter per folder",
            )
    replaced = {
        f"{path}.{'weight' if part == 'tokens' else part}": (key, _kind(path, part, config))
        for (path, part), key in sorted(keys.items())
        if part in (*_WHOLE, "tokens")
    }
    grouped: dict[str, dict[str, TensorHeader]] = {}
    for (path, part), key in keys.items():
        if path and part not in (*_WHOLE, *_UNTRAINED, "tokens"):
            grouped.setdefault(path, {})[part] = headers[key]
    if not grouped and not replaced:
        raise MalformedAdapter(f"{owner}: no tensor of it changes a module")
    return Layout(
        modules={path: grouped[path] for path in sorted(grouped)},
        keys=keys,
        shared={part: headers[key] for (path, part), key in keys.items() if not path},
        replaced=replaced,
        attentions=frozenset(
            path.removesuffix(".out_proj") for path, part in keys if part == "lora_A" and FUSED_OUT in keys[path, part]
        ),
    )


def _same_quirk(one: str, other: str) -> bool:
    """PEFT with bias="all" writes a head's bias twice: as the module's and as that of modules_to_save."""
    return "modules_to_save." in one + other


def _token_rows(config: PeftConfig) -> object:
    return config.raw.get("trainable_token_indices") or config.raw.get("token_indices")


def token_rows(config: PeftConfig, name: str, count: int, owner: str) -> tuple[int, ...]:
    """Which rows of the tensor `name` the `count` rows in the file are: a list, or lists by module name."""
    rows = _token_rows(config)
    if isinstance(rows, Mapping):
        module = name.rpartition(".")[0]
        rows = next((rows[key] for key in rows if f".{module}".endswith(f".{key}")), None)
    if not isinstance(rows, list) or len(rows) != count or len(set(map(str, rows))) != count:
        raise MalformedAdapter(f"{owner}: {name} has {count} rows, the config's token indices are {str(rows)[:200]}")
    if not all(isinstance(row, int) and not isinstance(row, bool) and row >= 0 for row in rows):
        raise MalformedAdapter(f"{owner}: the token indices of {name} are {str(rows)[:200]}, expected whole numbers")
    return tuple(rows)


def _kind(path: str, part: str, config: PeftConfig) -> str:
    """Which policy decides about the whole tensor `part` of the module at `path`."""
    last = path.rpartition(".")[2]
    if part == "tokens":
        return "tokens"
    if part == "bias" and config.raw.get("bias") not in (None, "none") and last not in _saved(config):
        return "bias"
    return "embedding" if last in EMBEDDINGS and last not in _saved(config) else "modules_to_save"


def _saved(config: PeftConfig) -> frozenset[str]:
    names = config.raw.get("modules_to_save")
    return frozenset(str(name).rpartition(".")[2] for name in names) if isinstance(names, list) else frozenset()


def bare_config(headers: Mapping[str, TensorHeader]) -> PeftConfig:
    """What can be known of weights that came without a config: the type by the tensors, ranks by their shapes."""
    kind = next((kind for mark, kind in _BARE_TYPES if any(mark in key for key in headers)), "LORA")
    return PeftConfig(kind, ranks_known=False)


def read_alphas(weights: Path, headers: Mapping[str, TensorHeader], owner: str) -> dict[str, float]:
    """Module path -> its alpha, where the file has them as tensors of one value (kohya, diffusers)."""
    found: dict[str, float] = {}
    with weights.open("rb") as file:
        for key, header in headers.items():
            place = parse_key(key)
            if place is None or place.part != "alpha":
                continue
            if header.shape not in ((), (1,)) or header.dtype not in FLOATING:
                raise MalformedAdapter(f"{owner}: tensor {key} has shape {list(header.shape)}, expected one number")
            file.seek(header.start)
            found[place.path] = _number(file.read(header.size), header.dtype)
            if not isfinite(found[place.path]):
                raise MalformedAdapter(f"{owner}: tensor {key} holds {found[place.path]}, expected a finite number")
    return found


def _number(raw: bytes, dtype: str) -> float:
    if dtype == "bfloat16":
        raw, dtype = b"\0\0" + raw, "float32"
    return float(struct.unpack({"float16": "<e", "float32": "<f", "float64": "<d"}[dtype], raw)[0])
