"""The names of an adapter's tensors: prefix + module path + the part of the adapter that the tensor is.

Reads what the field really has: an adapter name left in (`.lora_A.default.weight`), a doubled or missing prefix, the
marks of torch.compile, FSDP and DataParallel, the names of kohya and diffusers. Writes only PEFT's clean form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from .kohya_names import module_path

PREFIX = "base_model.model."
_WRAPPER = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module)\.")

_NAME = r"(?:\.[^.]+)?"  # an adapter's name that was left in
_PARTS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), part)
    for pattern, part in (
        (rf"^(?P<path>.+)\.lora_(?P<x>[AB]){_NAME}\.weight$", "lora_{x}"),
        (rf"^(?P<path>.+)\.lora_B{_NAME}\.bias$", "lora_bias"),
        (rf"^(?P<path>.+)\.lora_embedding_(?P<x>[AB]){_NAME}$", "embedding_{x}"),
        (rf"^(?P<path>.+)\.lora_magnitude_vector{_NAME}(?:\.weight)?$", "magnitude"),
        (rf"^(?P<path>.+)\.lora_(?P<x>[ABE]){_NAME}$", "lora_{x}"),
        (rf"^(?P<path>.+)\.(?P<x>(?:hada|lokr)_(?:w[12](?:_[ab])?|t[12])){_NAME}$", "{x}"),
        (rf"^(?P<path>.+)\.ia3_l{_NAME}$", "ia3_l"),
        (rf"^(?P<path>.+)\.vera_lambda_(?P<x>[bd]){_NAME}$", "vera_{x}"),
        (rf"^(?P<path>.+?)(?:\.token_adapter)?\.trainable_tokens_delta{_NAME}$", "tokens"),
        (rf"^(?P<path>.+)\.ln_tuning_layers{_NAME}\.(?P<x>weight|bias)$", "{x}"),
        (r"^(?P<path>.+)\.original_module\.(?P<x>weight|bias)$", "untrained_{x}"),
        (rf"^(?P<path>.+)\.modules_to_save{_NAME}\.(?P<x>weight|bias)$", "{x}"),
        (r"^(?P<path>.+)\.lora[._](?P<x>down|up)\.weight$", "lora_{x}"),
        (r"^(?P<path>.+)\.processor\.(?P<layer>to_[a-z]+)_lora\.(?P<x>down|up)\.weight$", "lora_{x}"),
        (r"^(?P<path>.+?)(?:\.lora)?\.alpha$", "alpha"),
        (r"^(?P<path>.+)\.base_layer\.(?P<x>weight|bias)$", "{x}"),
        (r"^(?P<path>.+)\.(?P<x>weight|bias)$", "{x}"),
    )
)
_RENAMED = {"lora_down": "lora_A", "lora_up": "lora_B"}
_SHARED = re.compile(rf"^(?:base_model\.)?(?P<x>vera_[AB]){_NAME}$")
FUSED_OUT = ".base_layer.out_proj"
"""Where PEFT keeps the output projection of nn.MultiheadAttention."""


@dataclass(frozen=True)
class TensorPlace:
    """Where one tensor belongs: `path` of the module in the base class ("" where all modules share it), and its `part`.

    Parts: lora_A, lora_B, lora_E, lora_bias, embedding_A, embedding_B, magnitude, alpha, hada_*, lokr_*, ia3_l, vera_*,
    tokens, weight, bias, untrained_weight, untrained_bias.
    """

    path: str
    part: str


@lru_cache(maxsize=1 << 14)  # adapters of one base have the same names, and each is asked for several times
def parse_key(key: str) -> TensorPlace | None:
    """The module and the part that a tensor's name stands for; `None` where it is nothing of an adapter."""
    clean = _WRAPPER.sub("", key).removeprefix("module.")
    if shared := _SHARED.match(clean):
        return TensorPlace("", shared["x"])
    while clean.startswith(PREFIX):
        clean = clean.removeprefix(PREFIX).removeprefix("module.")
    for pattern, part in _PARTS:
        if match := pattern.match(clean):
            found = match.groupdict()
            path = found["path"] + (f".{found['layer']}" if found.get("layer") else "")
            path = f"{path}.0" if path.endswith(".to_out") and found.get("layer") else path
            if path.endswith(FUSED_OUT):
                path = path.removesuffix(FUSED_OUT) + ".out_proj"
            name = part.format(x=found.get("x", ""))
            return TensorPlace(module_path(path), _RENAMED.get(name, name))
    return None


def write_key(path: str, part: str) -> str:
    """The name under which PEFT stores factor "A" or "B" of the module at `path`."""
    return f"{PREFIX}{path}.lora_{part}.weight"
