"""Ways to thin out one dense change (out, in) before changes are put together; `density` is the share that stays.

Each gives a new tensor of the same shape with zeros. At density 1 all but `keep_middle` give the change itself.
"""

from __future__ import annotations

import torch
from torch import Tensor


def keep_largest(delta: Tensor, density: float) -> Tensor:
    """The share `density` of the entries that is largest in magnitude (TIES, arXiv 2306.01708)."""
    return delta * _largest(delta, round(density * delta.numel()))


def keep_middle(delta: Tensor, density: float, outliers: float) -> Tensor:
    """Without the share `outliers` of the largest entries, and of the rest the largest, `density` in all
    (breadcrumbs, arXiv 2312.06795)."""
    count = delta.numel()
    top = round(outliers * count)
    kept = min(count - top, round(density * count))
    return delta * (_largest(delta, top + kept) & ~_largest(delta, top))


def drop_evenly(delta: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Every entry stays with probability `density` and is divided by it: unbiased (DARE, arXiv 2311.03099)."""
    if density >= 1:
        return delta
    mask = torch.rand(delta.shape, generator=generator).to(delta.device) < density
    return delta * mask / density


def drop_by_rank(delta: Tensor, density: float, epsilon: float, generator: torch.Generator) -> Tensor:
    """Entry k of n, by magnitude within its row, stays with probability p from density - epsilon for the smallest to
    density + epsilon for the largest, and is divided by p: unbiased (DELLA, arXiv 2406.11617)."""
    columns = delta.shape[1]
    order = delta.abs().argsort(dim=1, stable=True).argsort(dim=1)
    keep = density - epsilon + 2 * epsilon * order.to(delta.dtype) / max(1, columns - 1)
    if density >= 1 and epsilon == 0:
        return delta
    mask = torch.rand(delta.shape, generator=generator).to(delta) < keep
    return torch.where(mask, delta / keep, torch.zeros((), dtype=delta.dtype, device=delta.device))


def _largest(delta: Tensor, count: int) -> Tensor:
    """A mask of exactly `count` entries; of equal ones the first."""
    if count <= 0 or count >= delta.numel():
        return torch.full(delta.shape, count > 0, device=delta.device)
    size = delta.abs().flatten()
    smallest = size.kthvalue(delta.numel() - count + 1).values
    mask = size > smallest
    mask[(size == smallest).nonzero()[: count - int(mask.sum()), 0]] = True
    return mask.view(delta.shape)
