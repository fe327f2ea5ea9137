"""LoHa -> LoRA: delta = s (W1a W1b) * (W2a W2b), element by element, is a product of rank r^2 at most.

(sum_i a_i b_i^T) * (sum_j c_j d_j^T) = sum_ij (a_i * c_j) (b_i * d_j)^T: the columns of B are products of columns of
W1a and W2a, the rows of A all products of rows of W1b and W2b (Khatri-Rao). Where r^2 is more than the layer's smaller
side, the dense change is kept beside an identity instead. With a core tensor T (r, r, k, k), for convolutions, W1b
becomes T x W1b, flattened. Reference: Hyeon-Woo et al., FedPara, arXiv 2108.06098; PEFT 0.21 tuners/loha/layer.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..adapter import Factors
from ..module_shapes import ModuleShape
from ..peft_config import PeftConfig
from .dense import whole


def loha(parts: Mapping[str, Tensor], shape: ModuleShape, config: PeftConfig) -> Factors:
    """Rank r^2, or the layer's smaller side where that is less."""
    del config
    a1, b1 = _pair(parts, 1)
    a2, b2 = _pair(parts, 2)
    if shape.rank < a1.shape[1] ** 2:
        a, b = whole((a1 @ b1) * (a2 @ b2))
    else:
        b = (a1[:, :, None] * a2[:, None, :]).flatten(1)
        a = (b1[:, None, :] * b2[None, :, :]).flatten(0, 1)
    return Factors(a, b, shape.scaling, shape.kind, shape.kernel)


def _pair(parts: Mapping[str, Tensor], number: int) -> tuple[Tensor, Tensor]:
    """(out, r) and (r, in with kernel) of one of the two products."""
    a, b = parts[f"hada_w{number}_a"], parts[f"hada_w{number}_b"]
    if f"hada_t{number}" not in parts:
        return a, b
    return a.T, torch.einsum("ijkl,jr->irkl", parts[f"hada_t{number}"], b).flatten(1)
