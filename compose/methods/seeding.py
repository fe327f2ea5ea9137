"""Random masks that depend on a seed and on the adapter's own values, never on the order in which adapters come."""

from __future__ import annotations

import hashlib

import torch

from ..adapter import Factors


def generator_for(seed: int, factors: Factors) -> torch.Generator:
    """A generator for the masks of one adapter in one module: from sha256 of the seed, the scaling, A and B."""
    digest = hashlib.sha256(f"{seed} {factors.scaling!r}".encode())
    for tensor in (factors.A, factors.B):
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return torch.Generator().manual_seed(int.from_bytes(digest.digest()[:8], "little", signed=True))
