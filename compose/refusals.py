"""Literal tables of what is recognised and refused: by `peft_type`, by a field of the config, by a tensor's key.

Every row has the family's name as people call it, the reason, and the way out. The first that matches is the answer
(families.py). Sources: PEFT 0.21.2 (utils/peft_types.py, tuners/lora/config.py) and adapters that it really saved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
AS_MEAN = "average those of one shape with --method prompt-mean, or serve it as it is"
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
    "PREFIX_TUNING": Refusal("Prefix tuning", _PROMPT, AS_MEAN),
    "PROMPT_TUNING": Refusal("Prompt tuning", _PROMPT, AS_MEAN),
    "PSOFT": Refusal("PSOFT", "rotates singular directions of the base weights", AS_LORA),
    "PVERA": Refusal("PVeRA", "draws its factors at random at run time", AS_PLAIN),
    "P_TUNING": Refusal("P-tuning", _PROMPT, AS_MEAN),
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
"""peft_type -> refusal. A type that is neither here nor in families.READ is refused as unknown."""


PROMPTS = frozenset({"PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING"})
PROMPT_MEAN = "prompt-mean"
"""The types that can be averaged all the same, and the name of the method (prompt_mean.py)."""


@dataclass(frozen=True)
class FieldRow:
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

EXPERTS = Refusal("LoRA on target_parameters", "holds factors of 3-D expert weights", "train it on modules instead")

FIELDS: tuple[FieldRow, ...] = (
    FieldRow("kasa_config", _given, Refusal("KaSA", _BASE_MOVED, AS_FUSED)),
    FieldRow("init_lora_weights", _init("corda"), Refusal("CorDA", _BASE_MOVED, AS_CONVERTED)),
    FieldRow("init_lora_weights", _init("lora_ga"), Refusal("LoRA-GA", _BASE_MOVED, AS_CONVERTED)),
    FieldRow("init_lora_weights", _init("loftq"), Refusal("LoftQ", _BASE_MOVED, AS_FUSED)),
    FieldRow("init_lora_weights", _init("kasa"), Refusal("KaSA", _BASE_MOVED, AS_FUSED)),
    FieldRow(
        "init_lora_weights",
        lambda value: isinstance(value, str) and not value.lower().startswith((*PLAIN_INITS, *MOVED_INITS)),
        Refusal("LoRA with an unknown init_lora_weights", "it may be relative to a changed base", AS_PLAIN),
    ),
    FieldRow("monteclora_config", _given, Refusal("MonteCLoRA", "draws its factors at random at run time", AS_PLAIN)),
    FieldRow("use_qalora", _given, Refusal("QALoRA", "pools the inputs before the factors", AS_PLAIN)),
    FieldRow("use_bdlora", _given, Refusal("BD-LoRA", "has block-diagonal factors in a packed layout", AS_PLAIN)),
    FieldRow(
        "alora_invocation_tokens",
        _given,
        Refusal("aLoRA (activated LoRA)", "applies after certain tokens only", SERVE),
    ),
    FieldRow("num_experts", _given, Refusal("MixLoRA, LoRAMoE", _ROUTED, IN_PARTS)),
    FieldRow("routing_strategy", _given, Refusal("MixLoRA, LoRAMoE", _ROUTED, IN_PARTS)),
    FieldRow("arrow_config", _given, Refusal("Arrow", _ROUTED, IN_PARTS)),
    FieldRow("layer_replication", _given, Refusal("layer_replication", "is for a base with repeated layers", AS_FUSED)),
    FieldRow("target_parameters", _given, EXPERTS),
    FieldRow(
        "enable_lora", _given, Refusal("LoRA of PEFT before 0.2 (enable_lora)", "holds grouped factors", AS_PLAIN)
    ),
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
    (r"\.base_layer\.(?!out_proj\.lora_)(?:.*\.)?lora_[AB]", EXPERTS),
    (r"(?:^|\.)(?:prompt_embeddings|prefix_task_)", Refusal("Prompt tuning", _PROMPT, AS_MEAN)),
    (
        r"^(?:controlnet|control_model)\.|(?:^|\.)(?:controlnet_cond_embedding|zero_convs|input_hint_block)\.",
        CONTROLNET,
    ),
)
