"""What an adapter is, from its config and the header of its weights alone: no tensor is loaded, no torch is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from .errors import MalformedAdapter, UnsupportedAdapter
from .families import Refusal, find_refusal
from .peft_config import PeftConfig, parse_config, read_config
from .peft_keys import parse_key
from .safetensors_header import PICKLE, TensorHeader, read_header

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
FLOATING = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class ModuleShape:
    """One module that the adapter changes: A is (rank, in_features), B is (out_features, rank), s is `scaling`."""

    path: str
    rank: int
    in_features: int
    out_features: int
    dtype: str
    scaling: float


@dataclass(frozen=True)
class AdapterDescription:
    """Facts of one adapter. Where `supported` is false, `refusal` says why and `modules` is empty."""

    name: str
    peft_type: str
    supported: bool
    refusal: Refusal | None = None
    base_model: str | None = None
    base_revision: str | None = None
    task_type: str | None = None
    modules: tuple[ModuleShape, ...] = ()
    """Sorted by path."""
    alpha: float | None = None
    scaling_kind: str | None = None
    """"lora" (alpha / r) or "rslora" (alpha / sqrt r)."""
    has_patterns: bool = False
    target_modules: tuple[str, ...] = ()
    """The last component of each module path, as the tensors have them; not what the config says."""
    parameter_count: int = 0
    dtypes: tuple[str, ...] = ()
    fan_in_fan_out: bool = False
    config: Mapping[str, object] = field(default_factory=dict)

    @property
    def rank_min(self) -> int | None:
        return min((module.rank for module in self.modules), default=None)

    @property
    def rank_max(self) -> int | None:
        return max((module.rank for module in self.modules), default=None)


def describe(directory: Path, *, name: str | None = None) -> AdapterDescription:
    """Facts of the adapter in `directory`; `MalformedAdapter` where its files are damaged or missing."""
    owner = name or directory.name
    config = read_config(directory / CONFIG_FILE, owner=owner)
    if config.peft_type != "LORA" and not (directory / WEIGHTS_FILE).is_file():
        return _facts(config, {}, owner, find_refusal(config, {}))
    return _describe(config, weights_path(directory, owner), owner)


def describe_files(config: bytes | Mapping[str, object], weights: Path, *, name: str) -> AdapterDescription:
    """The same from a config in memory and a weights file under any name, as a blob store keeps it."""
    return _describe(parse_config(config, owner=name), weights, name)


def weights_path(directory: Path, owner: str) -> Path:
    """The safetensors file of an adapter; says by name why a pickle, or nothing, will not do."""
    path = directory / WEIGHTS_FILE
    if path.is_file():
        return path
    for pickle in ("adapter_model.bin", "pytorch_adapter.bin"):
        if (directory / pickle).exists():
            raise UnsupportedAdapter(f"{owner}: {pickle} is a pickle, which can run code when loaded", remedy=PICKLE)
    raise MalformedAdapter(
        f"{owner}: has no {WEIGHTS_FILE}", remedy="give the folder that PEFT's save_pretrained() wrote"
    )


def _describe(config: PeftConfig, weights: Path, owner: str) -> AdapterDescription:
    headers = read_header(weights, owner=f"{owner}/{WEIGHTS_FILE}")
    return describe_tensors(config, headers, owner)


def describe_tensors(config: PeftConfig, headers: Mapping[str, TensorHeader], owner: str) -> AdapterDescription:
    """The facts of tensors of these names and shapes under this config."""
    for key, header in headers.items():
        if header.shape and 0 in header.shape and parse_key(key):
            raise MalformedAdapter(
                f"{owner}: tensor {key} is empty (shape {list(header.shape)})",
                remedy="DeepSpeed ZeRO-3 saves empty tensors; gather the parameters before saving",
            )
    refusal = find_refusal(config, {key: header.shape for key, header in headers.items()})
    if not headers and refusal is None:
        raise MalformedAdapter(f"{owner}: {WEIGHTS_FILE} holds no tensor")
    return _facts(config, headers, owner, refusal)


def pair_keys(headers: Mapping[str, TensorHeader], owner: str) -> dict[str, tuple[str, str]]:
    """Module path -> the names of its A and its B, sorted by path; every tensor must belong to one of them."""
    keys: dict[tuple[str, str], str] = {}
    for key in headers:
        place = parse_key(key)
        if place is None:
            raise MalformedAdapter(
                f"{owner}: tensor {key} belongs to no LoRA factor (… .lora_A.weight or .lora_B.weight)"
            )
        twin = keys.setdefault((place.path, place.factor), key)
        if twin != key:
            raise MalformedAdapter(
                f"{owner}: tensors {twin} and {key} are both factor {place.factor} of {place.path}",
                remedy="save one adapter per folder",
            )
    for path, factor in keys:
        other = "B" if factor == "A" else "A"
        if (path, other) not in keys:
            raise MalformedAdapter(f"{owner}: {path} has lora_{factor} but no lora_{other}", remedy="save it again")
    return {path: (keys[path, "A"], keys[path, "B"]) for path in sorted({path for path, _ in keys})}


def _facts(
    config: PeftConfig, headers: Mapping[str, TensorHeader], owner: str, refusal: Refusal | None
) -> AdapterDescription:
    modules: tuple[ModuleShape, ...] = ()
    if refusal is None:
        pairs = pair_keys(headers, owner)
        modules = tuple(_module(config, path, keys, headers, owner) for path, keys in pairs.items())
    is_lora = config.peft_type == "LORA"
    return AdapterDescription(
        name=owner,
        peft_type=config.peft_type,
        supported=refusal is None,
        refusal=refusal,
        base_model=config.base_model,
        base_revision=config.base_revision,
        task_type=config.task_type,
        modules=modules,
        alpha=config.lora_alpha if is_lora else None,
        scaling_kind=("rslora" if config.use_rslora else "lora") if is_lora else None,
        has_patterns=bool(config.rank_pattern or config.alpha_pattern),
        target_modules=tuple(sorted({target_of(module.path) for module in modules})),
        parameter_count=sum(prod(header.shape) for header in headers.values()),
        dtypes=tuple(sorted({header.dtype for header in headers.values()})),
        fan_in_fan_out=config.fan_in_fan_out,
        config=config.raw,
    )


def target_of(path: str) -> str:
    """The name of a module's kind: its last component, with the one before where that is a number (`to_out.0`)."""
    parts = path.split(".")
    return ".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:])


def _module(
    config: PeftConfig, path: str, keys: tuple[str, str], headers: Mapping[str, TensorHeader], owner: str
) -> ModuleShape:
    """The shape of one module; A and B must fit each other and the config."""
    a, b = (headers[key] for key in keys)
    for key, header in zip(keys, (a, b), strict=True):
        if header.dtype not in FLOATING:
            raise MalformedAdapter(
                f"{owner}: tensor {key} has dtype {header.dtype}, expected one of {', '.join(FLOATING)}"
            )
        if len(header.shape) != 2:
            raise MalformedAdapter(f"{owner}: tensor {key} has shape {list(header.shape)}, expected two dimensions")
    rank, in_features = a.shape
    if b.shape[1] != rank:
        raise MalformedAdapter(
            f"{owner}: {path}: lora_A is {list(a.shape)}, lora_B is {list(b.shape)}; "
            f"expected lora_B with {rank} columns"
        )
    expected = config.rank_of(path)
    if rank != expected:
        raise MalformedAdapter(
            f"{owner}: {path}: lora_A has rank {rank}, adapter_config.json (r, rank_pattern) says {expected}",
            remedy=f"correct r or rank_pattern in {CONFIG_FILE}",
        )
    return ModuleShape(path, rank, in_features, b.shape[0], a.dtype, config.scaling_of(path, rank))
