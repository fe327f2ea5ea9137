"""LoKr -> LoRA: delta = s kron(W1, W2) is exactly of rank rank(W1) rank(W2).

kron(P1 Q1, P2 Q2) = kron(P1, P2) kron(Q1, Q2); a matrix that is given whole is taken as itself times an identity on its
smaller side. A convolution's W2 (c, d, k, k) is flattened from its second dimension on, which commutes with kron; with
a core tensor T (r, r, k, k) it is the product of W2a^T and T x W2b. Reference: Edalati et al., KronA, arXiv 2212.10650;
PEFT 0.21 tuners/lokr/layer.py (s = alpha / r even where both are whole).

One quirk is kept, since adapters are trained with it: for a whole W2 of a 1-D convolution (c, d, k) PEFT 0.21 takes
torch.kron(W1, W2), which sets W1's two dimensions against W2's last two, and reads the result in the order of the
weight (out, in, k). That is no Kronecker product of matrices, so the change is kept dense.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..adapter import Factors
from ..module_shapes import ModuleShape, is_misread
from ..peft_config import PeftConfig
from .dense import whole


def lokr(parts: Mapping[str, Tensor], shape: ModuleShape, config: PeftConfig) -> Factors:
    """Rank: the product of the two ranks, or the smaller side where the change is kept dense."""
    q1, p1 = _pair(parts, 1)
    if is_misread(parts["lokr_w2"].shape if "lokr_w2" in parts else (), config):
        a, b = whole(torch.kron(p1 @ q1, parts["lokr_w2"]).reshape(shape.out_features, shape.in_features))
        return Factors(a, b, shape.scaling, shape.kind, shape.kernel)
    q2, p2 = _pair(parts, 2)
    return Factors(torch.kron(q1, q2), torch.kron(p1, p2), shape.scaling, shape.kind, shape.kernel)


def _pair(parts: Mapping[str, Tensor], number: int) -> tuple[Tensor, Tensor]:
    """(Q, P) with P Q the matrix W1 or W2."""
    name = f"lokr_w{number}"
    if name in parts:
        return whole(parts[name].flatten(1))
    a, b = parts[f"{name}_a"], parts[f"{name}_b"]
    if f"lokr_t{number}" in parts:
        return torch.einsum("ijkl,jr->irkl", parts[f"lokr_t{number}"], b).flatten(1), a.T
    return b, a
