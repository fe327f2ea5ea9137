"""PiSSA and OLoRA -> LoRA: their factors are relative to W - s B0 A0, so delta = s B A - s B0 A0 = s [B, -B0] [A; A0].

A0 and B0 come from the adapter that was saved before training, or again from the base: PiSSA takes the r largest
singular values, B0 = U sqrt(S / s), A0 = sqrt(S / s) V^T; OLoRA the first r columns and rows of W = Q R. The product is
the same whatever signs the library chose. References: Meng et al., arXiv 2404.02948; Buyukakyuz, arXiv 2406.01775;
PEFT 0.21 tuners/lora/layer.py (pissa_init, olora_init).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..adapter import Factors
from ..errors import UnsupportedAdapter


def relative_to_base(trained: Factors, initial: Factors) -> Factors:
    """The change of the original base, at twice the rank. Both have the scaling of the trained one."""
    return replace(trained, A=torch.cat([trained.A, initial.A]), B=torch.cat([trained.B, -initial.B], dim=1))


def initial_factors(start: str, weight: Tensor, trained: Factors, *, owner: str) -> Factors:
    """What `start` (init_lora_weights) made of the weight (out, in) when training began."""
    rank = trained.rank
    if start.lower() == "pissa":
        u, values, vt = torch.linalg.svd(weight, full_matrices=False)
        root = (values[:rank] / trained.scaling).sqrt()
        return replace(trained, A=root[:, None] * vt[:rank], B=u[:, :rank] * root)
    if start.lower() == "olora":
        q, r = torch.linalg.qr(weight)
        return replace(trained, A=r[:rank], B=q[:, :rank])
    raise UnsupportedAdapter(
        f"{owner}: its factors began as {start!r}, drawn at random, which the base does not tell",
        remedy="give the adapter that was saved before training (initial=...)",
    )
