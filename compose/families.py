"""Which adapters can be mixed, and how; for every other kind the refusal that its config, keys and shapes ask for.

HANDLED is the literal table of what works, refusals.py that of what does not. Knows the config and the names and shapes
of the tensors; needs no torch and opens no files. `python -m compose.families` prints all of it as the README's table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .peft_config import PeftConfig
from .refusals import ADAPTERHUB, AS_FUSED, CONTROLNET, FIELDS, KEYS, MLX, MOVED_INITS, TYPES, UNTYPED, Refusal


@dataclass(frozen=True)
class Handled:
    """A kind that can be mixed: `how` it becomes a change of the base, and what is `needed` for that."""

    family: str
    how: str
    needed: str = ""


_POLICY = "replaces tensors: a policy says whose (see --policy)"

HANDLED: tuple[Handled, ...] = (
    Handled("LoRA on linear layers and Conv1D, QLoRA, LoRA+, rsLoRA, rank and alpha patterns", "as it is"),
    Handled("LoRA on embeddings, 1-D to 3-D convolutions (not grouped), nn.MultiheadAttention", "as it is"),
    Handled("lora_bias", "its bias changes are added by weight, whatever the method"),
    Handled("LoRA in the names of kohya and diffusers", "names are translated, alphas read from the file"),
    Handled("AdaLoRA, also pruned", "exactly, to LoRA: E and alpha / (init_r + 1e-5) go into A and s"),
    Handled("VeRA", "exactly, to LoRA: lambdas go into the shared random factors", "the base's shapes"),
    Handled("LoHa", "exactly, to LoRA of rank r^2 at most", "the base's shapes, for convolutions kept flat"),
    Handled(
        "LoKr", "exactly, to LoRA: Kronecker products of the factors", "the base's shapes, for convolutions kept flat"
    ),
    Handled(
        "PiSSA, OLoRA",
        "exactly, to LoRA of rank 2r: minus the initial factors",
        "the base, or the initial adapter (--initial)",
    ),
    Handled("DoRA", "the dense change, as factors of full rank; --max-rank says what is kept", "the base"),
    Handled("IA3", "l = 1 + sum w (l - 1); only with other IA3"),
    Handled(
        "bias=lora_only or all, modules_to_save, LN tuning, LongLoRA, whole embeddings",
        _POLICY,
        "the base, for delta_average",
    ),
    Handled("trainable tokens, resized embeddings", _POLICY, "the base, for delta_average"),
    Handled(
        "ReLoRA", "as plain LoRA of its last cycle", "to be bound to the base of that cycle, also with --allow-unbound"
    ),
)

READ = frozenset({"LORA", "ADALORA", "IA3", "LN_TUNING", "LOHA", "LOKR", "TRAINABLE_TOKENS", "VERA"})
"""The peft_types that are read."""


SHAPED_BY_BASE = frozenset({"LOHA", "LOKR"})
"""The peft_types whose files may keep a convolution flat, so that only the base tells it from a linear layer."""


RELORA_FILE = "relora_config.json"
"""What ReLoRA's own code writes beside the weights; nothing in the tensors says it."""


def is_relora(config: PeftConfig, directory: Path | None = None) -> bool:
    """Whether the factors are those of the last of several cycles, whose earlier ones were merged into the base."""
    marked = any(key.lower().startswith("relora") and value for key, value in config.raw.items())
    return marked or (directory is not None and (directory / RELORA_FILE).is_file())


def needs_original_base(config: PeftConfig) -> bool:
    """PiSSA and OLoRA: the factors are relative to the base minus the initial factors."""
    start = config.raw.get("init_lora_weights")
    return isinstance(start, str) and start.lower().startswith(MOVED_INITS)


def find_refusal(config: PeftConfig, shapes: Mapping[str, tuple[int, ...]]) -> Refusal | None:
    """Why this adapter cannot be mixed, or `None` where it can. `shapes` may be empty when only the config is known."""
    if config.peft_type not in READ:
        return _other_type(config)
    for row in FIELDS:
        if row.marks(config.raw.get(row.field)):
            return row.refusal
    if needs_original_base(config) and config.raw.get("use_dora"):
        return Refusal("DoRA on PiSSA or OLoRA", "rescales a base that was changed when training began", AS_FUSED)
    return _by_key(shapes)


def _other_type(config: PeftConfig) -> Refusal:
    kind, raw = config.peft_type, config.raw
    if kind:
        unknown = Refusal(f"peft_type {kind[:80]!r}", "unknown to this version", "convert it to plain LoRA with PEFT")
        return TYPES.get(kind, unknown)
    if "fine_tune_type" in raw or "lora_parameters" in raw:
        return MLX
    if "ControlNet" in str(raw.get("_class_name")):
        return CONTROLNET
    if "config" in raw and ("model_type" in raw or "model_name" in raw):
        return ADAPTERHUB
    return UNTYPED


def _by_key(shapes: Mapping[str, tuple[int, ...]]) -> Refusal | None:
    for pattern, refusal in KEYS:
        for key in shapes:
            if re.search(pattern, key):
                return Refusal(refusal.family, f"{refusal.reason} (key {key})", refusal.remedy)
    for key, shape in shapes.items():
        twin = shapes.get(key.replace("lora_A", "lora_B"), ())
        if "lora_A" in key and len(shape) > 2 and len(twin) == len(shape) and twin[1] < shape[0]:
            reason = f"PEFT itself can neither merge nor combine it (key {key})"
            return Refusal("LoRA on a grouped convolution", reason, "serve it as it is, beside the mix")
    return None


def family_table() -> str:
    """All kinds as one table in Markdown, for the README."""
    lines = ["| adapter | here | how, or why not | what it takes |", "|---|---|---|---|"]
    lines += [f"| {row.family} | works | {row.how} | {row.needed or 'nothing else'} |" for row in HANDLED]
    refused = [*(row.refusal for row in FIELDS), *TYPES.values(), *(row for _, row in KEYS), MLX, ADAPTERHUB, UNTYPED]
    seen: dict[str, Refusal] = {}
    for refusal in refused:
        seen.setdefault(refusal.family, refusal)
    rows = sorted(seen.values(), key=lambda refusal: refusal.family.lower())
    lines += [f"| {row.family} | refused | {row.reason} | {row.remedy or 'nothing'} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(family_table(), end="")
