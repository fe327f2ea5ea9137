"""A base model's tensors by name or by module path, read one at a time when asked for."""

from __future__ import annotations

from pathlib import Path

import safetensors
import torch
from torch import Tensor

from .adapter import LINEAR
from .base_model import file_headers, read_base_config, weight_files
from .base_shapes import locate, locate_weight
from .errors import BaseModelError, IncompatibleAdapters
from .orientation import as_matrix, is_transposed


class BaseWeights:
    """The base model in `directory` (config.json, safetensors). Only headers are read until a tensor is asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        config = read_base_config(directory)
        self.model_type = str(config.get("model_type"))
        self.quantised = bool(config.get("quantization_config"))
        headers = {file: file_headers(file) for file in weight_files(directory)}
        self._files = {name: file for file, found in headers.items() for name in found}
        self.shapes = {name: header.shape for found in headers.values() for name, header in found.items()}

    def tensor(self, name: str) -> Tensor:
        """The tensor called `name`, in its own dtype; one the base lacks is `IncompatibleAdapters`."""
        if name not in self._files:
            raise IncompatibleAdapters(f"the base {self.directory.name} has no tensor {name}", remedy="check the base")
        try:
            with safetensors.safe_open(self._files[name], framework="pt") as file:
                found: Tensor = file.get_tensor(name)
        except (safetensors.SafetensorError, OSError) as error:
            raise BaseModelError(f"{self.directory.name}: {name} cannot be read: {error}") from error
        return found

    def name_of(self, tensor: str) -> str | None:
        """The base's own name for a tensor that an adapter calls `tensor`, which may have or lack a prefix."""
        path, _, last = tensor.rpartition(".")
        places = locate([path], self.shapes, suffix=f".{last}")[path]
        return places[0] if len(places) == 1 else None

    def matrix(self, path: str, *, kind: str = LINEAR) -> Tensor:
        """The weight of the module at `path` as (out, in) in float32."""
        places = locate_weight(path, kind, self.shapes)
        if len(places) != 1:
            raise IncompatibleAdapters(
                f"module {path} has {len(places)} tensors in the base {self.directory.name}, expected one",
                remedy="give the base that the adapter was trained on",
            )
        if self.quantised:
            raise BaseModelError(
                f"{self.directory.name} is quantised, its weights cannot be computed with",
                remedy="give the full-precision base",
            )
        weight = self.tensor(places[0]).to(torch.float32)
        return as_matrix(weight, transposed=is_transposed(path, kind, self.model_type))
