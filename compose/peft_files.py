"""Reads an adapter folder into tensors, strictly: what PEFT would pass over with a warning is an error here.

safetensors only. All settings that scale the delta (alpha, rank and alpha patterns, rsLoRA) are folded into each
module's scaling; factors become float32; other families are converted (formats/). For facts without tensors see
description.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .adapter import Factors, LoraAdapter, Multiplier, Replacement
from .base_weights import BaseWeights
from .description import (
    CONFIG_FILE,
    AdapterDescription,
    bare_weights,
    describe,
    weights_path,
)
from .errors import IncompatibleAdapters, UnsupportedAdapter
from .families import needs_original_base
from .formats import CONVERTERS
from .formats.dora import dora
from .formats.ia3 import ia3
from .formats.moved_base import initial_factors, relative_to_base
from .formats.vera import projections
from .layout import Layout, arrange, bare_config, token_rows
from .module_shapes import ModuleShape
from .peft_config import PeftConfig, parse_config
from .safetensors_header import read_header
from .tensor_file import TensorFile


@dataclass(frozen=True)
class Effect:
    """Whether an adapter changes anything: `zero_modules` have a delta of exactly zero (B or A all zero)."""

    zero_modules: tuple[str, ...]
    module_count: int

    @property
    def zero_delta(self) -> bool:
        """The adapter as a whole changes nothing, as a fresh LoRA that was never trained."""
        return len(self.zero_modules) == self.module_count


def read_adapter(
    directory: Path,
    *,
    name: str | None = None,
    base: BaseWeights | None = None,
    initial: Path | None = None,
) -> LoraAdapter:
    """Read the adapter in `directory`; messages call it `name` (default the folder's name).

    `base` is its base model, which some families need; `initial` the folder of the adapter as it was before training,
    for PiSSA and OLoRA. `MalformedAdapter` for damaged files, NaN or infinite values; `UnsupportedAdapter` for a family
    that is not read, or one whose base is not given.
    """
    facts = require_supported(describe(directory, name=name, base_shapes=base.shapes if base else None))
    if facts.needs_base and base is None and initial is None:
        raise UnsupportedAdapter(
            f"{facts.name}: {facts.needs_base}, so the base model must be at hand",
            remedy="give it: --base FOLDER_OR_NAME",
        )
    with _Reader(directory, facts) as reader:
        modules = dict(_modules(reader, base, initial))
        multipliers = {m.path: ia3(reader.part(m.path, "ia3_l"), m.kind) for m in facts.modules if m.kind in _SIDES}
        return LoraAdapter(
            name=facts.name,
            modules=modules,
            base_model=facts.base_model,
            task_type=facts.task_type,
            dtype=widest([getattr(torch, dtype) for dtype in facts.dtypes]),
            fan_in_fan_out=facts.fan_in_fan_out,
            config=facts.config,
            biases=dict(_biases(reader)),
            replaced=dict(_replaced(reader)),
            multipliers=multipliers,
        )


def effect(directory: Path, *, name: str | None = None) -> Effect | None:
    """Look at every value of the adapter in `directory`, one module in memory at a time; errors as `read_adapter`.

    `None` where only the base could tell.
    """
    facts = require_supported(describe(directory, name=name))
    with _Reader(directory, facts) as reader:
        if facts.needs_base or facts.extras:
            reader.check_values()
            return None
        zero = [path for path, f in _modules(reader, None, None) if not (f.scaling and f.A.any() and f.B.any())]
        multiplied = [m.path for m in facts.modules if m.kind in _SIDES]
        zero += [path for path in multiplied if _is_one(ia3(reader.part(path, "ia3_l"), "out"))]
    return Effect(tuple(zero), len(facts.modules))


def require_supported(facts: AdapterDescription) -> AdapterDescription:
    """`facts` as they are, or `UnsupportedAdapter` with the family and the reason."""
    if facts.refusal is not None:
        raise UnsupportedAdapter(f"{facts.name}: {facts.refusal.message}", remedy=facts.refusal.remedy)
    return facts


def widest(dtypes: list[torch.dtype]) -> torch.dtype:
    """The dtype that holds all of `dtypes`; float16 and bfloat16 together make float32."""
    found = dtypes[0]
    for dtype in dtypes[1:]:
        found = torch.promote_types(found, dtype)
    return found


_SIDES = ("in", "out")


def _is_one(multiplier: Multiplier) -> bool:
    return bool((multiplier.values == 1).all())


class _Reader:
    """One adapter's weights file, open; gives parts of modules as float32, checked for NaN and infinities."""

    def __init__(self, directory: Path, facts: AdapterDescription) -> None:
        bare = None if (directory / CONFIG_FILE).is_file() else bare_weights(directory)
        self.path = bare or weights_path(directory, facts.name)
        self.facts = facts
        headers = self._headers = read_header(self.path, owner=f"{facts.name}/{self.path.name}")
        self.config: PeftConfig = bare_config(headers) if bare else parse_config(facts.config, owner=facts.name)
        self.layout: Layout = arrange(headers, self.config, facts.name)

    def __enter__(self) -> _Reader:
        self._file = TensorFile(self.path, self._headers, owner=self.facts.name)
        return self

    def __exit__(self, *error: object) -> None:
        del self._file

    def part(self, path: str, part: str) -> Tensor:
        return self.tensor(self.layout.keys[path, part])

    def tensor(self, key: str) -> Tensor:
        return self._file.tensor(key)

    def check_values(self) -> None:
        for key in self.layout.keys.values():
            self.tensor(key)

    def shared(self) -> dict[str, Tensor]:
        """VeRA's factors, from the file or drawn again."""
        if self.facts.peft_type != "VERA":
            return {}
        if set(self.layout.shared) == {"vera_A", "vera_B"}:
            return {part: self.part("", part) for part in self.layout.shared}
        shapes = self.facts.modules
        sizes = max(m.in_features for m in shapes), max(m.out_features for m in shapes)
        a, b = projections(self.config.r, *sizes, self.config.projection_prng_key)
        return {"vera_A": a, "vera_B": b}


def _modules(reader: _Reader, base: BaseWeights | None, initial: Path | None) -> Iterator[tuple[str, Factors]]:
    """Path and float32 factors of each module, in the order of the description."""
    before = _initial_modules(initial, reader.facts.name) if initial else {}
    shared = reader.shared()
    if reader.facts.peft_type == "VERA" and len(reader.facts.modules) < len(reader.layout.modules):
        known = {module.path for module in reader.facts.modules}
        missing = next(path for path in reader.layout.modules if path not in known)
        raise IncompatibleAdapters(f"{reader.facts.name}: the base has no module {missing}", remedy="check the base")
    for shape in reader.facts.modules:
        if shape.kind in _SIDES:
            continue
        parts = {part: reader.part(shape.path, part) for part in reader.layout.modules[shape.path] if part != "alpha"}
        stored = CONVERTERS[reader.facts.peft_type]({**parts, **shared}, shape, reader.config)
        yield shape.path, _with_base(stored, shape, parts, reader, base, before)


def _with_base(
    stored: Factors,
    shape: ModuleShape,
    parts: Mapping[str, Tensor],
    reader: _Reader,
    base: BaseWeights | None,
    before: Mapping[str, Factors],
) -> Factors:
    """The change of the original base, where the stored factors alone are not that."""
    if needs_original_base(reader.config):
        if shape.path in before:
            return relative_to_base(stored, before[shape.path])
        if base is None:
            raise IncompatibleAdapters(f"{reader.facts.name}: the initial adapter has no module {shape.path}")
        start = str(reader.config.raw["init_lora_weights"])
        weight = base.matrix(shape.path, kind=shape.kind)
        return relative_to_base(stored, initial_factors(start, weight, stored, owner=reader.facts.name))
    if "magnitude" in parts:
        if base is None:
            raise UnsupportedAdapter(f"{reader.facts.name}: DoRA needs the base model", remedy="--base FOLDER_OR_NAME")
        return dora(stored, parts["magnitude"], base.matrix(shape.path, kind=shape.kind))
    return stored


def _initial_modules(directory: Path, owner: str) -> Mapping[str, Factors]:
    """The factors of the adapter as it was saved before training; its config says PiSSA or OLoRA too."""
    facts = require_supported(describe(directory, name=f"{owner} (initial)"))
    with _Reader(directory, facts) as reader:
        return {
            path: Factors(reader.part(path, "lora_A"), reader.part(path, "lora_B"))
            for path, parts in reader.layout.modules.items()
            if "lora_A" in parts
        }


def _biases(reader: _Reader) -> Iterator[tuple[str, Tensor]]:
    """lora_bias: s b is added to the module's bias."""
    for shape in reader.facts.modules:
        if "lora_bias" in reader.layout.modules[shape.path]:
            yield shape.path, shape.scaling * reader.part(shape.path, "lora_bias")


def _replaced(reader: _Reader) -> Iterator[tuple[str, Replacement]]:
    """The whole tensors, and rows of tensors, that the file has trained copies of."""
    for name, (key, kind) in reader.layout.replaced.items():
        values = reader.tensor(key)
        rows = token_rows(reader.config, name, values.shape[0], reader.facts.name) if kind == "tokens" else None
        yield name, Replacement(values, kind, rows)
