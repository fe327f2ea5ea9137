"""The dense changes of the adapters that have a module, with their weights; absent ones say nothing."""

from __future__ import annotations

from collections.abc import Sequence

from ..adapter import Factors


def present(factors: Sequence[Factors | None], weights: Sequence[float]) -> tuple[list[Factors], list[float]]:
    """Those of weight other than 0; where that is none, the first with its weight 0."""
    pairs = [(f, float(w)) for f, w in zip(factors, weights, strict=True) if f is not None]
    used = [(f, w) for f, w in pairs if w != 0] or pairs[:1]
    return [f for f, _ in used], [w for _, w in used]
