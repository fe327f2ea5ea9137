"""An adapter as tensors: what every reader produces, every merge method consumes, every writer takes.

Knows nothing of files, configs, base models or devices. Invariant: `delta = scaling * B @ A` for every module, whatever
the file said about alpha, rank patterns or rsLoRA; readers fold all of that into `scaling`. What a file may carry
besides low-rank changes is kept apart by what it means: added to a bias, replacing a tensor, or multiplying a weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

LINEAR, EMBEDDING, CONV, ATTENTION = "linear", "embedding", "conv", "attention"
"""Kinds of modules: where the (out, in) delta goes.

linear: the `.weight` (out, in), or (in, out) in GPT-2's Conv1D; embedding: the `.weight` (in = vocabulary, out), so
transposed; conv: the `.weight` (out, in / kernel size, *kernel), flattened from the second dimension on; attention: the
fused `.in_proj_weight` of nn.MultiheadAttention.
"""


@dataclass(frozen=True)
class Factors:
    """The low-rank change of one module.

    `A` is (rank, in_features), `B` is (out_features, rank), both float32 on the CPU unless a caller moved them.
    For GPT-2's Conv1D the orientation is the same; only fusing transposes. For a convolution in_features counts the
    kernel's places too, and `kernel` is its shape.
    """

    A: Tensor
    B: Tensor
    scaling: float = 1.0
    kind: str = LINEAR
    kernel: tuple[int, ...] = ()

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
class Replacement:
    """A tensor of the base that the file holds a trained copy of: an absolute value, never a change.

    `kind` is "bias", "modules_to_save", "embedding" or "tokens"; for tokens `values` are the rows (n, dim) numbered
    `rows` of the tensor, else the whole tensor.
    """

    values: Tensor
    kind: str
    rows: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Multiplier:
    """IA3: W' = W * l, with `values` l (n,) along the weight's `side`, "out" (then also bias' = bias * l) or "in"."""

    values: Tensor
    side: str


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
    biases: Mapping[str, Tensor] = field(default_factory=dict)
    """Module path -> what is added to its bias, (out_features,), scaling folded in (lora_bias)."""
    replaced: Mapping[str, Replacement] = field(default_factory=dict)
    """Tensor name (`model.lm_head.weight`) -> what stands in its place."""
    multipliers: Mapping[str, Multiplier] = field(default_factory=dict)

    @property
    def max_rank(self) -> int:
        return max((f.rank for f in self.modules.values()), default=0)

    @property
    def is_plain(self) -> bool:
        """Only changes of linear layers: what every loader and the scorers can run."""
        extras = self.biases or self.replaced or self.multipliers
        return not extras and all(f.kind == LINEAR for f in self.modules.values())
