"""AdaLoRA -> LoRA: delta = alpha / (init_r + 1e-5) B (A * E), with E (r, 1) the singular values that pruning left.

The divisor stays the rank before pruning (PEFT 0.21 tuners/adalora/layer.py keeps `ranknum`), whatever is left of it;
a module that was pruned to nothing becomes a zero change of rank 1. Reference: Zhang et al., arXiv 2303.10512.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..adapter import Factors
from ..module_shapes import ModuleShape
from ..peft_config import PeftConfig


def adalora(parts: Mapping[str, Tensor], shape: ModuleShape, config: PeftConfig) -> Factors:
    """E goes into A, the constant is the scaling."""
    del config
    a, b = parts["lora_A"] * parts["lora_E"], parts["lora_B"]
    if a.shape[0] == 0:
        return Factors(a.new_zeros(1, shape.in_features), b.new_zeros(shape.out_features, 1))
    return Factors(a, b, shape.scaling)
