"""What an adapter is, from its config and the header of its weights alone: no tensor is loaded, no torch is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

from .base_shapes import locate_weight
from .errors import MalformedAdapter, UnsupportedAdapter
from .families import READ, find_refusal, is_relora, needs_original_base
from .layout import Layout, arrange, bare_config, read_alphas
from .module_shapes import ModuleShape, Source, shape_of
from .peft_config import PeftConfig, parse_config, read_config
from .peft_keys import parse_key
from .refusals import Refusal
from .safetensors_header import PICKLE, TensorHeader, read_header

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class Extra:
    """A tensor of the file that is no low-rank change: it replaces `name` of the base (see adapter.Replacement)."""

    name: str
    kind: str
    shape: tuple[int, ...]


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
    """Sorted by path. Without the base's shapes VeRA has none."""
    extras: tuple[Extra, ...] = ()
    needs_base: str = ""
    """Why the base model must be at hand to mix it (DoRA, PiSSA, VeRA ...); empty: it need not."""
    is_relora: bool = False
    """Its factors mean something only on the base of their own cycle: the identity of that must be known."""
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


BaseShapes = Mapping[str, tuple[int, ...]]


def describe(directory: Path, *, name: str | None = None, base_shapes: BaseShapes | None = None) -> AdapterDescription:
    """Facts of the adapter in `directory`; `MalformedAdapter` where its files are damaged or missing.

    `base_shapes` are the tensors of its base model, if known; VeRA's modules are described with them only, and LoHa's
    and LoKr's convolutions that the file keeps flat are told from linear layers.
    """
    owner = name or directory.name
    if not (directory / CONFIG_FILE).is_file() and (bare := bare_weights(directory)):
        return _describe(bare_config(read_header(bare, owner=owner)), bare, owner, base_shapes)
    config = read_config(directory / CONFIG_FILE, owner=owner)
    if config.peft_type not in READ and not (directory / WEIGHTS_FILE).is_file():
        return facts_of(config, {}, owner, refusal=find_refusal(config, {}))
    facts = _describe(config, weights_path(directory, owner), owner, base_shapes)
    return replace(facts, is_relora=is_relora(config, directory))


def describe_files(config: bytes | Mapping[str, object], weights: Path, *, name: str) -> AdapterDescription:
    """The same from a config in memory and a weights file under any name, as a blob store keeps it."""
    return _describe(parse_config(config, owner=name), weights, name, None)


def bare_weights(directory: Path) -> Path | None:
    """The weights of a folder without config, as kohya and diffusers write: their one safetensors file."""
    files = sorted(directory.glob("*.safetensors"))
    return files[0] if len(files) == 1 else None


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


def _describe(config: PeftConfig, weights: Path, owner: str, base_shapes: BaseShapes | None) -> AdapterDescription:
    headers = read_header(weights, owner=f"{owner}/{weights.name}")
    return describe_tensors(
        config, headers, owner, alphas=read_alphas(weights, headers, owner), base_shapes=base_shapes
    )


def describe_tensors(
    config: PeftConfig,
    headers: Mapping[str, TensorHeader],
    owner: str,
    *,
    alphas: Mapping[str, float] | None = None,
    base_shapes: BaseShapes | None = None,
) -> AdapterDescription:
    """The facts of tensors of these names and shapes under this config; `alphas` are what the file says by module."""
    for key, header in headers.items():
        if (
            header.shape
            and 0 in header.shape
            and not key.endswith((".lora_A", ".lora_B", ".lora_E"))
            and parse_key(key)
        ):
            raise MalformedAdapter(
                f"{owner}: tensor {key} is empty (shape {list(header.shape)})",
                remedy="DeepSpeed ZeRO-3 saves empty tensors; gather the parameters before saving",
            )
    refusal = find_refusal(config, {key: header.shape for key, header in headers.items()})
    if not headers and refusal is None:
        raise MalformedAdapter(f"{owner}: {WEIGHTS_FILE} holds no tensor")
    return facts_of(config, headers, owner, refusal=refusal, alphas=alphas or {}, base_shapes=base_shapes)


def facts_of(
    config: PeftConfig,
    headers: Mapping[str, TensorHeader],
    owner: str,
    *,
    refusal: Refusal | None,
    alphas: Mapping[str, float] | None = None,
    base_shapes: BaseShapes | None = None,
) -> AdapterDescription:
    layout = None if refusal else arrange(headers, config, owner)
    modules: tuple[ModuleShape, ...] = ()
    if layout is not None:
        modules = module_shapes(layout, config, owner, alphas=alphas or {}, base_shapes=base_shapes)
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
        extras=_extras(layout, headers) if layout else (),
        needs_base=_needs_base(layout, config) if layout else "",
        alpha=config.lora_alpha if config.peft_type in ("LORA", "ADALORA", "LOHA", "LOKR") else None,
        scaling_kind=("rslora" if config.use_rslora else "lora") if is_lora else None,
        has_patterns=bool(config.rank_pattern or config.alpha_pattern),
        target_modules=tuple(sorted({target_of(module.path) for module in modules})),
        parameter_count=sum(prod(header.shape) for header in headers.values()),
        dtypes=tuple(sorted({header.dtype for header in headers.values()})),
        fan_in_fan_out=config.fan_in_fan_out,
        config=config.raw,
    )


def module_shapes(
    layout: Layout,
    config: PeftConfig,
    owner: str,
    *,
    alphas: Mapping[str, float],
    base_shapes: BaseShapes | None,
) -> tuple[ModuleShape, ...]:
    """The shape of each module, sorted by path; VeRA's need the base."""

    def base_shape(path: str) -> tuple[int, ...] | None:
        places = locate_weight(path, "linear", base_shapes or {})
        return base_shapes[places[0]] if base_shapes and len(places) == 1 else None

    config.check_patterns(layout.modules, owner)
    source = Source(owner, config, layout.shared, base_shape, layout.attentions)
    found = (shape_of(path, parts, source) for path, parts in layout.modules.items())
    shapes = [shape for shape in found if shape is not None]
    return tuple(replace(s, scaling=alphas[s.path] / layout.rank_of(s)) if s.path in alphas else s for s in shapes)


def _extras(layout: Layout, headers: Mapping[str, TensorHeader]) -> tuple[Extra, ...]:
    return tuple(Extra(name, kind, headers[key].shape) for name, (key, kind) in layout.replaced.items())


def _needs_base(layout: Layout, config: PeftConfig) -> str:
    if any("magnitude" in parts for parts in layout.modules.values()):
        return "DoRA rescales the rows of the changed weight"
    if needs_original_base(config):
        return "its factors are relative to the base minus the initial factors"
    if config.peft_type == "VERA":
        return "VeRA's shared factors are cut to the base's shapes"
    return ""


def target_of(path: str) -> str:
    """The name of a module's kind: its last component, with the one before where that is a number (`to_out.0`)."""
    parts = path.split(".")
    return ".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:])
