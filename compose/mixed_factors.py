"""What a mix of adapters looks like to a running model: factors per module for K candidates at once.

`Stack` is the seam between the ways of mixing (`stack.py`) and what uses the mixes (`batched_model.py`, `scoring/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .errors import BadWeights
from .methods import MergeMethod


@dataclass(frozen=True)
class MixedFactors:
    """K mixes of one module: candidate k's delta is `B[k] @ diag(diagonal[k]) @ A[k]`.

    `A` is (K, rank, in_features) and `B` is (K, out_features, rank); without the leading K they are shared by all
    candidates. `diagonal` is (K, rank), or None for all ones.
    """

    A: Tensor
    B: Tensor
    diagonal: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> MixedFactors:
        diagonal = None if self.diagonal is None else self.diagonal.to(device, dtype)
        return MixedFactors(self.A.to(device, dtype), self.B.to(device, dtype), diagonal)

    def deltas(self) -> Tensor:
        """The dense changes, (K, out_features, in_features). For tests; scoring never forms them."""
        scaled = self.A if self.diagonal is None else self.diagonal.unsqueeze(-1) * self.A
        return self.B @ scaled


class Stack(Protocol):
    """Adapters ready to be mixed by one method. `names` gives the order of the weights in a row; `module_shapes` the
    modules that any of the adapters changes, as (out_features, in_features)."""

    @property
    def method(self) -> MergeMethod: ...

    @property
    def params(self) -> Mapping[str, object]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def module_shapes(self) -> Mapping[str, tuple[int, int]]: ...

    @property
    def device(self) -> torch.device | None:
        """The one device on which rows that lie there are mixed without asking anything back of it; None where the host
        has a part in it, or several devices."""
        ...

    def mix(self, weights: Tensor) -> dict[str, MixedFactors]:
        """K mixes from weight rows (K, N); `BadWeights` when a row has another length or a weight is not finite."""
        ...


def checked_weights(weights: Tensor, names: Sequence[str]) -> Tensor:
    """`weights` itself, when it is (K, N) with N names and every weight is finite; else `BadWeights`.

    Values that lie on a GPU already are not asked for, as that would wait for all its work: who puts them there checks
    them before.
    """
    if weights.ndim != 2 or weights.shape[1] != len(names):
        raise BadWeights(
            f"weights of shape {tuple(weights.shape)} for {len(names)} adapters",
            remedy=f"give rows of {len(names)} weights, in the order {', '.join(names)}",
        )
    if weights.device.type == "cpu" and not bool(torch.isfinite(weights).all()):
        raise BadWeights("a weight is not finite", remedy="give finite weights")
    return weights
