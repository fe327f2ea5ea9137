"""LoRA on any kind of layer: the factors are in the file, a convolution's are flattened.

Linear: A (r, in), B (out, r). Embedding: A (r, vocabulary), B (dim, r); its delta is transposed when it is fused.
Convolution: A (r, in, *kernel), B (out, r, 1, ...): delta = s B.flatten(1) A.flatten(1). nn.MultiheadAttention: one
pair for the fused projection (3 d, d). Reference: Hu et al., arXiv 2106.09685; PEFT 0.21 tuners/lora/layer.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..adapter import Factors
from ..module_shapes import ModuleShape
from ..peft_config import PeftConfig


def lora(parts: Mapping[str, Tensor], shape: ModuleShape, config: PeftConfig) -> Factors:
    """The factors as they are stored; of a DoRA or PiSSA module those before the base comes in."""
    del config
    a, b = ("embedding_A", "embedding_B") if "embedding_A" in parts else ("lora_A", "lora_B")
    return Factors(parts[a].flatten(1), parts[b].flatten(1), shape.scaling, shape.kind, shape.kernel)
