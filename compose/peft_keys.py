"""The names of LoRA tensors: `base_model.model.` + module path + `.lora_A.weight` or `.lora_B.weight`.

Reads what the field really has: an adapter name left in (`.lora_A.default.weight`), a doubled or missing prefix, the
marks of torch.compile and FSDP. Writes only the clean form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PREFIX = "base_model.model."
_FACTOR = re.compile(r"^(?P<path>.+)\.lora_(?P<factor>[AB])(?:\.[^.]+)?\.weight$")
_WRAPPER = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module)\.")


@dataclass(frozen=True)
class FactorKey:
    """Where one tensor belongs: `path` of the module in the base class, `factor` "A" or "B"."""

    path: str
    factor: str


def parse_key(key: str) -> FactorKey | None:
    """The module and factor that a tensor's name stands for; `None` where it is no LoRA factor."""
    clean = _WRAPPER.sub("", key)
    while clean.startswith(PREFIX):
        clean = clean.removeprefix(PREFIX)
    match = _FACTOR.match(clean)
    return FactorKey(match["path"], match["factor"]) if match else None


def write_key(path: str, factor: str) -> str:
    """The name under which PEFT stores factor "A" or "B" of the module at `path`."""
    return f"{PREFIX}{path}.lora_{factor}.weight"
