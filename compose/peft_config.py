"""adapter_config.json, checked and frozen; and the scaling of each module.

Unknown keys are kept and passed over, as PEFT does; a known key of a wrong type is `MalformedAdapter`. Scaling (PEFT
0.21, tuners/lora/layer.py): s = alpha / r, or alpha / sqrt(r) with rsLoRA; r and alpha of one module come from the
first pattern key, in the order of the file, that matches its path. Needs no torch and opens no weights.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite, sqrt
from pathlib import Path

from .errors import MalformedAdapter
from .module_patterns import check_keys, check_work, first_match

RANKED = frozenset({"LORA", "ADALORA", "VERA", "LOHA", "LOKR", "IA3"})
"""The types whose ranks and scalings are read."""

MAX_CONFIG = 4_000_000
"""Bytes of a config."""


@dataclass(frozen=True)
class PeftConfig:
    """What this package reads of a config. For types not in RANKED only the first four fields are checked."""

    peft_type: str
    base_model: str | None = None
    base_revision: str | None = None
    task_type: str | None = None
    r: int = 8
    lora_alpha: float = 8.0
    use_rslora: bool = False
    fan_in_fan_out: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    init_r: int = 12
    """AdaLoRA: the rank before pruning."""
    projection_prng_key: int = 0
    """VeRA: the seed of its shared factors."""
    ranks_known: bool = True
    """False where no config came with the weights: then r is what A's shape says."""
    raw: Mapping[str, object] = field(default_factory=dict)

    @property
    def adalora_scaling(self) -> float:
        """PEFT 0.21 tuners/adalora/layer.py: alpha over the rank before pruning, plus 1e-5; alpha 0 means r."""
        alpha = self.lora_alpha if self.lora_alpha > 0 else float(self.r)
        return alpha / (self.init_r + 1e-5)

    def rank_of(self, path: str) -> int:
        """The rank that the config gives the module at `path`."""
        key = first_match(self.rank_pattern, path)
        return self.r if key is None else self.rank_pattern[key]

    def scaling_of(self, path: str, rank: int) -> float:
        """The factor s of delta = s B A for the module at `path`, whose A has `rank` rows."""
        key = first_match(self.alpha_pattern, path)
        alpha = self.lora_alpha if key is None else self.alpha_pattern[key]
        return alpha / sqrt(rank) if self.use_rslora else alpha / rank

    def check_patterns(self, paths: Collection[str], owner: str) -> None:
        """MalformedAdapter where finding the ranks and alphas of all these modules would take too long."""
        check_work([*self.rank_pattern, *self.alpha_pattern], paths, f"{owner}: rank_pattern and alpha_pattern")


def parse_config(source: bytes | str | Mapping[str, object], *, owner: str) -> PeftConfig:
    """Check a config given as bytes, text or object. `owner` is what messages call the adapter."""
    raw = _object(source, owner)
    read = _Fields(raw, owner)
    peft_type = raw.get("peft_type")
    if not isinstance(peft_type, str) or not peft_type:
        # families.py says which other tool wrote a config without one
        if "peft_type" in raw and peft_type is not None:
            raise MalformedAdapter(f"{owner}: peft_type is {peft_type!r}, expected a text such as 'LORA'")
        peft_type = ""
    base, revision, task = (read.text(key) for key in ("base_model_name_or_path", "revision", "task_type"))
    if peft_type not in RANKED:
        return PeftConfig(peft_type, base, revision, task, raw=raw)
    # AdaLoRA's rank_pattern says which singular values are left, which the shapes say too
    ranks = [] if peft_type == "ADALORA" else read.patterns("rank_pattern")
    return PeftConfig(
        peft_type,
        base,
        revision,
        task,
        r=read.rank("r", 8),
        lora_alpha=read.number("alpha" if peft_type in ("LOHA", "LOKR") else "lora_alpha", 8.0),
        use_rslora=read.flag("use_rslora"),
        fan_in_fan_out=read.flag("fan_in_fan_out"),
        rank_pattern={key: read.check_rank(f"rank_pattern[{key!r}]", v) for key, v in ranks},
        alpha_pattern={
            key: read.check_number(f"alpha_pattern[{key!r}]", v) for key, v in read.patterns("alpha_pattern")
        },
        init_r=read.rank("init_r", 12),
        projection_prng_key=read.seed("projection_prng_key"),
        raw=raw,
    )


def read_config(path: Path, *, owner: str) -> PeftConfig:
    """Read and check one adapter_config.json."""
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise MalformedAdapter(f"{owner}: {path.name} is larger than {MAX_CONFIG} bytes")
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise MalformedAdapter(
            f"{owner}: has no {path.name}", remedy="give the folder that PEFT's save_pretrained() wrote"
        ) from error
    except OSError as error:
        raise MalformedAdapter(f"{owner}: cannot read {path.name}: {error.strerror}") from error
    return parse_config(raw, owner=owner)


def _object(source: bytes | str | Mapping[str, object], owner: str) -> Mapping[str, object]:
    if isinstance(source, Mapping):
        return source
    if source[:8] in (b"version ", "version "):
        raise MalformedAdapter(
            f"{owner}: adapter_config.json is a Git LFS pointer, not the file itself", remedy="run `git lfs pull` first"
        )
    try:
        text = source.decode("utf-8-sig") if isinstance(source, bytes) else source
        raw = json.loads(text, parse_constant=_refuse_constant)
        written = json.dumps(raw, ensure_ascii=False)
        written.encode("utf-8")  # half of a surrogate pair could not be stored later, nor could a zero character
        if "\\u0000" in written:
            raise ValueError("it holds a zero character")
    except (ValueError, RecursionError) as error:
        raise MalformedAdapter(f"{owner}: adapter_config.json is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise MalformedAdapter(f"{owner}: adapter_config.json holds a {type(raw).__name__}, expected an object")
    return raw


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON value")


@dataclass(frozen=True)
class _Fields:
    """Typed access to the fields of one config; null counts as not given."""

    raw: Mapping[str, object]
    owner: str

    def _refuse(self, key: str, value: object, expected: str) -> MalformedAdapter:
        return MalformedAdapter(f"{self.owner}: {key} in adapter_config.json is {value!r}, expected {expected}")

    def text(self, key: str) -> str | None:
        value = self.raw.get(key)
        if value is None or isinstance(value, str):
            return value or None
        raise self._refuse(key, value, "a text or null")

    def flag(self, key: str) -> bool:
        value = self.raw.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self._refuse(key, value, "true or false")

    def rank(self, key: str, default: int) -> int:
        return self.check_rank(key, default if self.raw.get(key) is None else self.raw[key])

    def seed(self, key: str) -> int:
        value = self.raw.get(key)
        if value is None:
            return 0
        if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
            return value
        raise self._refuse(key, value, "a whole number")

    def number(self, key: str, default: float) -> float:
        return self.check_number(key, default if self.raw.get(key) is None else self.raw[key])

    def check_rank(self, key: str, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        raise self._refuse(key, value, "a whole number from 1")

    def check_number(self, key: str, value: object) -> float:
        # abs() < 1e30 also keeps integers out that no float can hold
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30 and isfinite(value):
            return float(value)
        raise self._refuse(key, value, "a finite number")

    def patterns(self, key: str) -> list[tuple[str, object]]:
        value = self.raw.get(key)
        if value is None:
            return []
        if not isinstance(value, Mapping):
            raise self._refuse(key, value, "an object of module pattern -> value")
        check_keys(value, f"{self.owner}: {key} in adapter_config.json")
        return list(value.items())
