"""One adapter's weights file, open: its tensors by module and part, as checked float32."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from .description import CONFIG_FILE, AdapterDescription, bare_weights, weights_path
from .errors import MalformedAdapter
from .formats.vera import projections
from .layout import Layout, arrange, bare_config
from .peft_config import PeftConfig, parse_config
from .safetensors_header import read_header


class OpenAdapter:
    """One adapter's weights file, open; gives parts of modules as float32, checked for NaN and infinities."""

    def __init__(self, directory: Path, facts: AdapterDescription) -> None:
        bare = None if (directory / CONFIG_FILE).is_file() else bare_weights(directory)
        self.path = bare or weights_path(directory, facts.name)
        self.facts = facts
        headers = read_header(self.path, owner=facts.name)
        self.config: PeftConfig = bare_config(headers) if bare else parse_config(facts.config, owner=facts.name)
        self.layout: Layout = arrange(headers, self.config, facts.name)

    def __enter__(self) -> OpenAdapter:
        try:
            opener: Any = safetensors.safe_open
            self._file = opener(self.path, framework="pt").__enter__()
        except (safetensors.SafetensorError, OSError) as error:
            raise self._unreadable(error) from error
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def part(self, path: str, part: str) -> Tensor:
        return self.tensor(self.layout.keys[path, part])

    def tensor(self, key: str) -> Tensor:
        try:
            return _finite(self._file.get_tensor(key), key, self.facts.name)
        except (safetensors.SafetensorError, OSError) as error:
            raise self._unreadable(error) from error

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

    def _unreadable(self, error: Exception) -> MalformedAdapter:
        return MalformedAdapter(f"{self.facts.name}: {self.path.name} cannot be read: {error}")


def _finite(tensor: Tensor, key: str, owner: str) -> Tensor:
    """`tensor` in float32; NaN or an infinity in the file, or a float64 too large for float32, is an error."""
    values = tensor.to(torch.float32)
    # NaN and infinities survive a sum, which is several times faster; a sum that overflows is looked at closely
    if not isfinite(values.sum().item()) and not torch.isfinite(values).all():
        kind = "NaN" if torch.isnan(values).any() else "infinite values"
        raise MalformedAdapter(f"{owner}: tensor {key} holds {kind}", remedy="train again; this adapter diverged")
    return values
