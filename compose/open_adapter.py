"""One adapter's weights file, open: its tensors by module and part, as checked float32."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from .description import CONFIG_FILE, AdapterDescription, bare_weights, weights_path
from .formats.vera import projections
from .layout import Layout, arrange, bare_config
from .peft_config import PeftConfig, parse_config
from .safetensors_header import read_header
from .tensor_file import TensorFile


class OpenAdapter:
    """One adapter's weights file, open; gives parts of modules as float32, checked for NaN and infinities."""

    def __init__(self, directory: Path, facts: AdapterDescription) -> None:
        bare = None if (directory / CONFIG_FILE).is_file() else bare_weights(directory)
        self.path = bare or weights_path(directory, facts.name)
        self.facts = facts
        headers = self._headers = read_header(self.path, owner=f"{facts.name}/{self.path.name}")
        self.config: PeftConfig = bare_config(headers) if bare else parse_config(facts.config, owner=facts.name)
        self.layout: Layout = arrange(headers, self.config, facts.name)

    def __enter__(self) -> OpenAdapter:
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
