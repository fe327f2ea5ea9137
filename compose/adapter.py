"""A LoRA adapter as tensors: what every reader produces, every merge method consumes, every writer takes.

Knows nothing of files, configs, base models or devices. Invariant: `delta = scaling * B @ A` for every module, whatever
the file said about alpha, rank patterns or rsLoRA; readers fold all of that into `scaling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """The low-rank change of one module.

    `A` is (rank, in_features), `B` is (out_features, rank), both float32 on the CPU unless a caller moved them.
    For GPT-2's Conv1D the orientation is the same; only fusing transposes.
    """

    A: Tensor
    B: Tensor
    scaling: float = 1.0

    @property
    def rank(self) -> int:
        return self.A.shape[0]

    @property
    def in_features(self) -> int:
        return self.A.shape[1]

    @property
    def out_features(self) -> int:
        return self.B.shape[0]

    def delta(self) -> Tensor:
        """The dense change `scaling * B @ A`, (out_features, in_features). For tests and fusing, never for merging."""
        return self.scaling * (self.B @ self.A)


@dataclass(frozen=True)
class LoraAdapter:
    """One adapter: module path -> factors. Module paths are those of the base class, without `base_model.model.`."""

    name: str
    modules: Mapping[str, Factors]
    base_model: str | None = None
    task_type: str | None = None
    dtype: torch.dtype = torch.float32
    """The dtype of the file; the factors themselves are float32."""
    fan_in_fan_out: bool = False
    config: Mapping[str, object] = field(default_factory=dict)
    """The adapter_config.json as read; informative only."""

    @property
    def max_rank(self) -> int:
        return max((f.rank for f in self.modules.values()), default=0)
