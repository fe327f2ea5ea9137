"""Which adapters can be mixed, and how; for every other kind that PEFT and its neighbours write: name, reason, way out.

Literal tables: HANDLED for what works; refusals by `peft_type`, by a field of the config, by a tensor's key. The first
refusal that matches is the answer. Knows the config and the names and shapes of the tensors; needs no torch and reads
no files. Sources: PEFT 0.21.2 (utils/peft_types.py, tuners/lora/config.py) and adapters that it really saved.
`python -m compose.families` prints all of it as the README's table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .peft_config import PeftConfig


@dataclass(frozen=True)
class Refusal:
    """Why an adapter cannot be mixed: the `family` as people call it, the reason, and the way out (may be empty)."""

    family: str
    reason: str
    remedy: str = ""

    @property
    def message(self) -> str:
        return f"{self.family}: {self.reason}"


AS_LORA = "convert it to plain LoRA with PEFT: peft.save_as_lora()"
AS_PLAIN = "train it as plain LoRA"
SERVE = "serve it as it is, beside the mix"
AS_FUSED = "merge it into its base with PEFT (merge_and_unload) and use the result as a base model"
AS_CONVERTED = (
    "save it with save_pretrained(path_initial_model_for_weight_conversion=...), which makes plain LoRA of it"
)
IN_PARTS = "publish its plain LoRA parts one by one"

_OWN = "changes the weights in its own way, not by the factors A and B of LoRA"
_ROTATES = "multiplies the base weights by a rotation, which is no sum that can be mixed"
_PROMPT = "trains virtual tokens or key-value states and changes no weight"
_ROUTED = "decides at run time which parts apply, so it has no single change of the weights"
_BASE_MOVED = "its factors are relative to a base that was changed when training began"


TYPES: dict[str, Refusal] = {
    "ADAMSS": Refusal("AdaMSS", _OWN, AS_FUSED),
    "ADAPTION_PROMPT": Refusal("LLaMA-Adapter (adaption prompt)", _PROMPT, SERVE),
    "BEFT": Refusal("BEFT", "trains biases, which are no factors", AS_FUSED),
    "BOFT": Refusal("BOFT", _ROTATES, AS_FUSED),
    "C3A": Refusal("C3A", "changes weights by circular convolution", AS_LORA),
    "CARTRIDGE": Refusal("Cartridge", _PROMPT, SERVE),
    "CPT": Refusal("CPT (context-aware prompt tuning)", _PROMPT, SERVE),
    "DEFT": Refusal("DEFT", _OWN, AS_FUSED),
    "DELORA": Refusal("DeLoRA", "normalises its factors against the base weights", AS_LORA),
    "FOURIERFT": Refusal("FourierFT", "holds the change as Fourier coefficients", AS_LORA),
    "FROD": Refusal("FRoD", _OWN, AS_FUSED),
    "GLORA": Refusal("GLoRA", _OWN, AS_FUSED),
    "GRALORA": Refusal("GraLoRA", "has factors per block of the weight", AS_LORA),
    "HIRA": Refusal("HiRA", "multiplies the base weights by its factors, element by element", AS_FUSED),
    "HRA": Refusal("HRA", _ROTATES, AS_FUSED),
    "LILY": Refusal("Lily", _ROUTED, AS_PLAIN),
    "MISS": Refusal("MiSS", "shares one factor over blocks of the weight", AS_LORA),
    "MULTITASK_PROMPT_TUNING": Refusal("Multitask prompt tuning", _PROMPT, SERVE),
    "OFT": Refusal("OFT", _ROTATES, AS_FUSED),
    "OSF": Refusal("OSF", "replaces the singular values and vectors of the base weights", AS_FUSED),
    "PEANUT": Refusal("PeanuT", "has a non-linear function between its factors", AS_FUSED),
    "POLY": Refusal("Poly", _ROUTED, IN_PARTS),
    "PREFIX_TUNING": Refusal("Prefix tuning", _PROMPT, SERVE),
    "PROMPT_TUNING": Refusal("Prompt tuning", _PROMPT, SERVE),
    "PSOFT": Refusal("PSOFT", "rotates singular directions of the base weights", AS_LORA),
    "PVERA": Refusal("PVeRA", "draws its factors at random at run time", AS_PLAIN),
    "P_TUNING": Refusal("P-tuning", _PROMPT, SERVE),
    "RANDLORA": Refusal("RandLoRA", "scales random factors that are shared by all modules", AS_LORA),
    "ROAD": Refusal("RoAd", _ROTATES, AS_FUSED),
    "SHADOW": Refusal("Shadow", _OWN, AS_PLAIN),
    "SHIRA": Refusal("SHiRA", "changes single entries of the weights", AS_FUSED),
    "SUPERTUNING": Refusal("SuperTuning", _OWN, AS_PLAIN),
    "TINYLORA": Refusal("TinyLoRA", "is relative to singular vectors of the base weights", AS_LORA),
    "UNILORA": Refusal("UniLoRA", "projects one shared vector to all factors", AS_LORA),
    "VBLORA": Refusal("VB-LoRA", "builds its factors from a shared vector bank", AS_LORA),
    "WAVEFT": Refusal("WaveFT", "holds the change as wavelet coefficients", AS_LORA),
    "XLORA": Refusal("X-LoRA", _ROUTED, IN_PARTS),
}
"""peft_type -> refusal. A type that is neither here nor in READ is refused as unknown."""


@dataclass(frozen=True)
class _Field:
    """A row of FIELDS: refuse when `marks` holds for the config's value of `field`."""

    field: str
    marks: Callable[[object], bool]
    refusal: Refusal


def _given(value: object) -> bool:
    return value not in (None, False) and value != {} and value != []


def _init(*names: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value.lower().startswith(names)


PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "true", "false")
"""Ways to start the factors that leave the base as it is."""

MOVED_INITS = ("pissa", "olora")
"""Ways that change the base, and can be done again from it."""

FIELDS: tuple[_Field, ...] = (
    _Field("kasa_config", _given, Refusal("KaSA", _BASE_MOVED, AS_FUSED)),
    _Field("init_lora_weights", _init("corda"), Refusal("CorDA", _BASE_MOVED, AS_CONVERTED)),
    _Field("init_lora_weights", _init("lora_ga"), Refusal("LoRA-GA", _BASE_MOVED, AS_CONVERTED)),
    _Field("init_lora_weights", _init("loftq"), Refusal("LoftQ", _BASE_MOVED, AS_FUSED)),
    _Field("init_lora_weights", _init("kasa"), Refusal("KaSA", _BASE_MOVED, AS_FUSED)),
    _Field(
        "init_lora_weights",
        lambda value: isinstance(value, str) and not value.lower().startswith((*PLAIN_INITS, *MOVED_INITS)),
        Refusal("LoRA with an unknown init_lora_weights", "it may be relative to a changed base", AS_PLAIN),
    ),
    _Field("monteclora_config", _given, Refusal("MonteCLoRA", "draws its factors at random at run time", AS_PLAIN)),
    _Field("use_qalora", _given, Refusal("QALoRA", "pools the inputs before the factors", AS_PLAIN)),
    _Field("use_bdlora", _given, Refusal("BD-LoRA", "has block-diagonal factors in a packed layout", AS_PLAIN)),
    _Field(
        "alora_invocation_tokens",
        _given,
        Refusal("aLoRA (activated LoRA)", "applies after certain tokens only", "serve it as it is, beside the mix"),
    ),
    _Field("num_experts", _given, Refusal("MixLoRA, LoRAMoE", _ROUTED, IN_PARTS)),
    _Field("routing_strategy", _given, Refusal("MixLoRA, LoRAMoE", _ROUTED, IN_PARTS)),
    _Field("arrow_config", _given, Refusal("Arrow", _ROUTED, IN_PARTS)),
    _Field("layer_replication", _given, Refusal("layer_replication", "is for a base with repeated layers", AS_FUSED)),
    _Field(
        "target_parameters",
        _given,
        Refusal("LoRA on target_parameters", "holds factors of 3-D expert weights", "train it on modules instead"),
    ),
    _Field("enable_lora", _given, Refusal("LoRA of PEFT before 0.2 (enable_lora)", "holds grouped factors", AS_PLAIN)),
)

MLX = Refusal(
    "MLX-LM adapter", "its factors are transposed and its config is not PEFT's", "convert it to PEFT's layout"
)
ADAPTERHUB = Refusal(
    "AdapterHub adapter",
    "bottleneck layers are not linear and cannot be folded into a weight",
    "average equal ones with AdapterHub's average_adapter()",
)
CONTROLNET = Refusal("ControlNet", "is a network of its own, not an adapter of weights", "load it with diffusers")
UNTYPED = Refusal("adapter_config.json without peft_type", "it does not say what it is", 'add "peft_type": "LORA"')

KEYS: tuple[tuple[str, Refusal], ...] = (
    (
        r"\.base_layer\.(?!out_proj\.lora_)(?:.*\.)?lora_[AB]",
        Refusal("LoRA on target_parameters", "holds factors of 3-D expert weights", "train it on modules instead"),
    ),
    (r"(?:^|\.)(?:prompt_embeddings|prefix_task_)", Refusal("Prompt tuning", _PROMPT, SERVE)),
    (
        r"^(?:controlnet|control_model)\.|(?:^|\.)(?:controlnet_cond_embedding|zero_convs|input_hint_block)\.",
        CONTROLNET,
    ),
)


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
    Handled("LoHa", "exactly, to LoRA of rank r^2 at most"),
    Handled("LoKr", "exactly, to LoRA: Kronecker products of the factors"),
    Handled(
        "PiSSA, OLoRA", "exactly, to LoRA of rank 2r: minus the initial factors", "the base, or the initial adapter"
    ),
    Handled("DoRA", "the dense change, as factors of full rank; --max-rank says what is kept", "the base"),
    Handled("IA3", "l = 1 + sum w (l - 1); only with other IA3"),
    Handled(
        "bias=lora_only or all, modules_to_save, LN tuning, LongLoRA, whole embeddings",
        _POLICY,
        "the base, for delta_average",
    ),
    Handled("trainable tokens, resized embeddings", _POLICY, "the base, for delta_average"),
    Handled("ReLoRA", "as plain LoRA of its last cycle", "to be bound to the base of that cycle, not the original one"),
)

READ = frozenset({"LORA", "ADALORA", "IA3", "LN_TUNING", "LOHA", "LOKR", "TRAINABLE_TOKENS", "VERA"})
"""The peft_types that are read."""


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
