"""Adds an adapter to its base model: W' = W + s B A for every module, written as a base model folder of its own.

The sum is made in float32 and rounded once to the dtype of W. Files stay as they are split; they are streamed (see
shard_stream.py), so memory does not depend on the model's size. What is replaced or multiplied instead of added to, and
heads that are tied to embeddings, are settled in weight_changes.py.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

from .adapter import LoraAdapter
from .base_model import INDEX, WEIGHTS, read_base_config, weight_files
from .base_weights import BaseWeights
from .errors import BaseModelError, OutputExists
from .shard_stream import rewrite
from .weight_changes import FusePlan, plan_changes

OTHER_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".ot", ".onnx"})
"""Endings of files that hold the unchanged weights once more, and are left out."""


@dataclass(frozen=True)
class FuseReport:
    """`changed` are the tensors that the adapter changed; `max_rounding` the largest |rounded - float32| among them."""

    directory: Path
    changed: tuple[str, ...]
    max_rounding: float
    untied: bool = False
    """The head was one tensor with the embedding, and has become one of its own."""
    quantised: str | None = None
    """The name of the quantised copy that the adapter was trained on, by its config; the sum is in full precision."""


_QUANTISED = re.compile(r"(?:^|[-_./])(?:bnb|gptq|awq|nf4|fp4|int[48]|[48]-?bits?)(?:$|[-_./])", re.IGNORECASE)


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
    plan = plan_changes(adapter, BaseWeights(base_directory), tied=is_tied(config))
    out_directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = out_directory.parent / f".{out_directory.name}.{secrets.token_hex(4)}.partial"
    scratch.mkdir()
    try:
        largest = _write_weights(base_directory, scratch, plan)
        for other in sorted(base_directory.iterdir()):
            if other.is_file() and other.suffix not in OTHER_WEIGHTS and other.name != INDEX:
                shutil.copyfile(other, scratch / other.name)
        _write_config(scratch, config, plan, adapter.name)
        scratch.replace(out_directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    trained_on = adapter.base_model or ""
    quantised = trained_on if _QUANTISED.search(trained_on) else None
    return FuseReport(out_directory, tuple(sorted(plan.changes)), largest, plan.untied, quantised)


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether the head is the embedding; also where only a nested text config says it."""
    inner = config.get("text_config")
    return bool(config.get("tie_word_embeddings") or (isinstance(inner, dict) and inner.get("tie_word_embeddings")))


def _write_weights(base: Path, scratch: Path, plan: FusePlan) -> float:
    """Stream every weights file, and write the index of several; the largest rounding."""
    weight_map: dict[str, str] = {}
    largest, total = 0.0, 0
    for file in weight_files(base):
        with safetensors.safe_open(file, framework="pt") as opened:
            names, metadata = set(opened.keys()), opened.metadata() or {}
        here = {name: change for name, change in plan.changes.items() if change.start in names}
        written = rewrite(file, scratch / file.name, here, metadata)
        weight_map |= dict.fromkeys([*names, *here], file.name)
        largest, total = max(largest, written.max_rounding), total + written.size
    if set(weight_map.values()) != {WEIGHTS}:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (scratch / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return largest


def _write_config(scratch: Path, config: Mapping[str, Any], plan: FusePlan, owner: str) -> None:
    """config.json says it where the head was untied or the vocabulary has grown."""
    changed = dict(config)
    if plan.untied:
        changed["tie_word_embeddings"] = False
        if isinstance(config.get("text_config"), dict):
            changed["text_config"] = {**config["text_config"], "tie_word_embeddings": False}
    kinds = ((c.shape[0], c.replacement) for c in plan.changes.values() if len(c.shape) == 2)
    sizes = {rows for rows, r in kinds if r and r.rows is None and r.kind in ("embedding", "modules_to_save")}
    old = config.get("vocab_size")
    if isinstance(old, int) and sizes and old not in sizes:
        grown = {size for size in sizes if size > old}
        if len(grown) > 1:
            raise BaseModelError(f"{owner}: its embeddings have different vocabularies: {sorted(grown)}")
        changed["vocab_size"] = max(grown, default=old)
    if changed != dict(config):
        (scratch / "config.json").write_text(json.dumps(changed, indent=2) + "\n", encoding="utf-8")
