"""Which adapters can be mixed; for every other kind that PEFT and its neighbours write: name, reason and way out.

Three literal tables: by `peft_type`, by a field of the config, by a tensor's key. The first row that matches is the
answer. Knows the config and the names and shapes of the tensors; needs no torch and reads no files. Sources: PEFT
0.21.2 (utils/peft_types.py, tuners/lora/config.py) and adapters that it really saved.
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
AS_FUSED = "merge it into its base with PEFT (merge_and_unload) and use the result as a base model"
AS_CONVERTED = (
    "save it with save_pretrained(path_initial_model_for_weight_conversion=...), which makes plain LoRA of it"
)
NO_HEADS = "save it without the fully trained modules (modules_to_save=None)"
NO_EMBEDDING_COPY = "save it with save_pretrained(..., save_embedding_layers=False)"

_OWN = "changes the weights in its own way, not by the factors A and B of LoRA"
_ROTATES = "multiplies the base weights by a rotation, which is no sum that can be mixed"
_SCALES = "multiplies activations by trained vectors, which is no low-rank change"
_PROMPT = "trains virtual tokens or key-value states and changes no weight"
_ROUTED = "decides at run time which parts apply, so it has no single change of the weights"
_ABSOLUTE = "replaces weights by trained copies instead of changing them by factors"
_BASE_MOVED = "its factors are relative to a base that was changed when training began"


TYPES: dict[str, Refusal] = {
    "ADALORA": Refusal("AdaLoRA", "its factors carry a third, pruned part E, not read yet", AS_FUSED),
    "ADAMSS": Refusal("AdaMSS", _OWN, AS_FUSED),
    "ADAPTION_PROMPT": Refusal("LLaMA-Adapter (adaption prompt)", _PROMPT),
    "BEFT": Refusal("BEFT", "trains biases, which are no factors", AS_FUSED),
    "BOFT": Refusal("BOFT", _ROTATES, AS_FUSED),
    "C3A": Refusal("C3A", "changes weights by circular convolution", AS_LORA),
    "CARTRIDGE": Refusal("Cartridge", _PROMPT),
    "CPT": Refusal("CPT (context-aware prompt tuning)", _PROMPT),
    "DEFT": Refusal("DEFT", _OWN, AS_FUSED),
    "DELORA": Refusal("DeLoRA", "normalises its factors against the base weights", AS_LORA),
    "FOURIERFT": Refusal("FourierFT", "holds the change as Fourier coefficients", AS_LORA),
    "FROD": Refusal("FRoD", _OWN, AS_FUSED),
    "GLORA": Refusal("GLoRA", _OWN, AS_FUSED),
    "GRALORA": Refusal("GraLoRA", "has factors per block of the weight", AS_LORA),
    "HIRA": Refusal("HiRA", "multiplies the base weights by its factors, element by element", AS_FUSED),
    "HRA": Refusal("HRA", _ROTATES, AS_FUSED),
    "IA3": Refusal("IA3", _SCALES, AS_FUSED),
    "LILY": Refusal("Lily", _ROUTED),
    "LN_TUNING": Refusal("LN tuning", _ABSOLUTE, AS_FUSED),
    "LOHA": Refusal("LoHa", "multiplies two pairs of factors element by element", AS_LORA),
    "LOKR": Refusal("LoKr", "is a Kronecker product", AS_LORA),
    "MISS": Refusal("MiSS", "shares one factor over blocks of the weight", AS_LORA),
    "MULTITASK_PROMPT_TUNING": Refusal("Multitask prompt tuning", _PROMPT),
    "OFT": Refusal("OFT", _ROTATES, AS_FUSED),
    "OSF": Refusal("OSF", "replaces the singular values and vectors of the base weights", AS_FUSED),
    "PEANUT": Refusal("PeanuT", "has a non-linear function between its factors", AS_FUSED),
    "POLY": Refusal("Poly", _ROUTED),
    "PREFIX_TUNING": Refusal("Prefix tuning", _PROMPT),
    "PROMPT_TUNING": Refusal("Prompt tuning", _PROMPT),
    "PSOFT": Refusal("PSOFT", "rotates singular directions of the base weights", AS_LORA),
    "PVERA": Refusal("PVeRA", "draws its factors at random at run time"),
    "P_TUNING": Refusal("P-tuning", _PROMPT),
    "RANDLORA": Refusal("RandLoRA", "scales random factors that are shared by all modules", AS_LORA),
    "ROAD": Refusal("RoAd", _ROTATES, AS_FUSED),
    "SHADOW": Refusal("Shadow", _OWN),
    "SHIRA": Refusal("SHiRA", "changes single entries of the weights", AS_FUSED),
    "SUPERTUNING": Refusal("SuperTuning", _OWN),
    "TINYLORA": Refusal("TinyLoRA", "is relative to singular vectors of the base weights", AS_LORA),
    "TRAINABLE_TOKENS": Refusal("Trainable tokens", "replaces rows of the embedding by trained copies", AS_FUSED),
    "UNILORA": Refusal("UniLoRA", "projects one shared vector to all factors", AS_LORA),
    "VBLORA": Refusal("VB-LoRA", "builds its factors from a shared vector bank", AS_LORA),
    "VERA": Refusal("VeRA", "scales random factors that are shared by all modules", AS_LORA),
    "WAVEFT": Refusal("WaveFT", "holds the change as wavelet coefficients", AS_LORA),
    "XLORA": Refusal("X-LoRA", _ROUTED),
}
"""peft_type -> refusal. LORA is the one that is read; a type in neither is refused as unknown."""


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

FIELDS: tuple[_Field, ...] = (
    _Field(
        "use_dora", _given, Refusal("DoRA", "rescales the rows of the changed weight, which needs the base", AS_LORA)
    ),
    _Field("kasa_config", _given, Refusal("KaSA", _BASE_MOVED, AS_FUSED)),
    _Field("init_lora_weights", _init("pissa"), Refusal("PiSSA", _BASE_MOVED, AS_CONVERTED)),
    _Field("init_lora_weights", _init("olora"), Refusal("OLoRA", _BASE_MOVED, AS_CONVERTED)),
    _Field("init_lora_weights", _init("corda"), Refusal("CorDA", _BASE_MOVED, AS_CONVERTED)),
    _Field("init_lora_weights", _init("lora_ga"), Refusal("LoRA-GA", _BASE_MOVED, AS_CONVERTED)),
    _Field("init_lora_weights", _init("loftq"), Refusal("LoftQ", _BASE_MOVED, AS_FUSED)),
    _Field("init_lora_weights", _init("kasa"), Refusal("KaSA", _BASE_MOVED, AS_FUSED)),
    _Field(
        "init_lora_weights",
        lambda value: isinstance(value, str) and not value.lower().startswith(PLAIN_INITS),
        Refusal("LoRA with an unknown init_lora_weights", "it may be relative to a changed base", AS_PLAIN),
    ),
    _Field("monteclora_config", _given, Refusal("MonteCLoRA", "draws its factors at random at run time", AS_PLAIN)),
    _Field("use_qalora", _given, Refusal("QALoRA", "pools the inputs before the factors", AS_PLAIN)),
    _Field("use_bdlora", _given, Refusal("BD-LoRA", "has block-diagonal factors in a packed layout", AS_PLAIN)),
    _Field("alora_invocation_tokens", _given, Refusal("aLoRA (activated LoRA)", "applies after certain tokens only")),
    _Field("arrow_config", _given, Refusal("Arrow", _ROUTED)),
    _Field("layer_replication", _given, Refusal("layer_replication", "is for a base with repeated layers", AS_FUSED)),
    _Field("target_parameters", _given, Refusal("LoRA on target_parameters", "holds factors of 3-D expert weights")),
    _Field("enable_lora", _given, Refusal("LoRA of PEFT before 0.2 (enable_lora)", "holds grouped factors", AS_PLAIN)),
    _Field("lora_bias", _given, Refusal("LoRA with lora_bias", "trains biases beside the factors", AS_PLAIN)),
    _Field(
        "bias",
        lambda value: value not in (None, "none"),
        Refusal("LoRA with trained biases (bias != 'none')", _ABSOLUTE, "train with bias='none'"),
    ),
    _Field(
        "trainable_token_indices",
        _given,
        Refusal("LoRA with trainable tokens", "replaces rows of the embedding by trained copies", AS_FUSED),
    ),
    _Field("modules_to_save", _given, Refusal("LoRA with modules_to_save", _ABSOLUTE, NO_HEADS)),
)

KEYS: tuple[tuple[str, Refusal], ...] = (
    (r"\.lora_magnitude_vector", Refusal("DoRA", "rescales the rows of the changed weight", AS_LORA)),
    (r"\.lora_E$", Refusal("AdaLoRA", "its factors carry a third, pruned part E, not read yet", AS_FUSED)),
    (r"\.lora_embedding_[AB]", Refusal("LoRA on an embedding", "not read yet", AS_FUSED)),
    (r"\.lora_B(\.[^.]+)?\.bias$", Refusal("LoRA with lora_bias", "trains biases beside the factors", AS_PLAIN)),
    (r"trainable_tokens_delta", Refusal("LoRA with trainable tokens", "replaces rows of the embedding", AS_FUSED)),
    (
        r"\.base_layer\.out_proj\.lora_[AB]",
        Refusal("LoRA on nn.MultiheadAttention", "holds factors of a fused projection", AS_FUSED),
    ),
    (r"\.base_layer\.(?:.*\.)?lora_[AB]", Refusal("LoRA on target_parameters", "holds factors of 3-D expert weights")),
    (r"\.base_layer\.bias$", Refusal("LoRA with trained biases (bias != 'none')", _ABSOLUTE, "train with bias='none'")),
    (r"\.base_layer\.", Refusal("LoRA with a copy of a base weight", _ABSOLUTE, NO_EMBEDDING_COPY)),
    (
        r"lora_(?:up|down)|\.lora\.(?:up|down)|\.alpha$|^lora_(?:unet|te)",
        Refusal("LoRA in the naming of kohya or diffusers", "not read yet", "convert it to PEFT's naming"),
    ),
    (r"(?:^|\.)(?:prompt_embeddings|prefix_task_)", Refusal("Prompt tuning", _PROMPT)),
    (
        r"^(?!.*lora_).*\.(?:weight|bias)$",
        Refusal("LoRA with whole trained weights (modules_to_save, resized embedding)", _ABSOLUTE, NO_HEADS),
    ),
)


def find_refusal(config: PeftConfig, shapes: Mapping[str, tuple[int, ...]]) -> Refusal | None:
    """Why this adapter cannot be mixed, or `None` where it can. `shapes` may be empty when only the config is known."""
    if config.peft_type != "LORA":
        return _other_type(config)
    for row in FIELDS:
        if row.marks(config.raw.get(row.field)):
            return row.refusal
    return _by_key(shapes)


def _other_type(config: PeftConfig) -> Refusal:
    kind, raw = config.peft_type, config.raw
    if kind:
        unknown = Refusal(f"peft_type {kind[:80]!r}", "unknown to this version", "convert it to plain LoRA with PEFT")
        return TYPES.get(kind, unknown)
    if "fine_tune_type" in raw or "lora_parameters" in raw:
        return Refusal("MLX-LM adapter", "is not in the layout of PEFT", "convert it to PEFT's layout")
    if "config" in raw and ("model_type" in raw or "model_name" in raw):
        return Refusal("AdapterHub adapter", "bottleneck layers are not linear and cannot be folded into a weight")
    return Refusal("adapter_config.json without peft_type", "it does not say what it is", 'add "peft_type": "LORA"')


def _by_key(shapes: Mapping[str, tuple[int, ...]]) -> Refusal | None:
    for pattern, refusal in KEYS:
        for key in shapes:
            if re.search(pattern, key):
                return Refusal(refusal.family, f"{refusal.reason} (key {key})", refusal.remedy)
    for key, shape in shapes.items():
        if len(shape) > 2 and ".lora_" in key:
            return Refusal("LoRA on a convolution", f"not read yet (key {key} has {len(shape)} dimensions)", AS_FUSED)
    return None
