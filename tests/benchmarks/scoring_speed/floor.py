"""The least that a step can cost when every product of it runs as fast as this machine multiplies matrices.

Counted are the products of one candidate on examples without padding: every linear layer, the output layer at the
positions of the labels only, the adapters' two small products, and attention. The linear layers' products are then run
by themselves, at their own shapes, and timed; the small ones are taken at the best rate seen. A scorer that shares work
between candidates or reorders products can be below this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from scoring_speed.shapes import RANK
from torch.nn.functional import linear
from torch.utils.flop_counter import FlopCounterMode

from compose.scoring import LoadedBase

Gemm = tuple[int, int, int]
"""Rows, in, out."""


@dataclass(frozen=True)
class Work:
    """Of one candidate: how often each product of a linear layer, and the FLOP of everything smaller."""

    gemms: Counter[Gemm]
    other_flop: float

    @property
    def flop(self) -> float:
        return self.other_flop + sum(2.0 * m * k * n * times for (m, k, n), times in self.gemms.items())


def work_of(base: LoadedBase, inputs: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], targets: Any) -> Work:
    """`inputs` and `labels` as token ids. A causal model sees both, an encoder-decoder the labels in its decoder."""
    gemms: Counter[Gemm] = Counter()
    adapted, attention = 0.0, 0.0
    head = base.model.get_output_embeddings()
    for ids, wanted in zip(inputs, labels, strict=True):
        seen: list[tuple[str, Any, int]] = []
        handles = [
            module.register_forward_hook(_recorder(seen, name))
            for name, module in base.model.named_modules()
            if isinstance(module, torch.nn.Linear)
        ]
        row = torch.tensor([[*ids, *wanted] if base.kind == "causal" else list(ids)], device=base.model.device)
        decoder = {} if base.kind == "causal" else {"decoder_input_ids": row.new_tensor([list(wanted)])}
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            base.model(input_ids=row, use_cache=False, **decoder)
        for handle in handles:
            handle.remove()
        counts = counter.get_flop_counts()["Global"]
        attention += sum(flop for op, flop in counts.items() if "attention" in str(op))
        for name, module, rows in seen:
            rows = len(wanted) if module is head else rows
            gemms[rows, module.in_features, module.out_features] += 1
            if name.rpartition(".")[2] in targets:
                adapted += 2.0 * rows * RANK * (module.in_features + module.out_features)
    return Work(gemms, adapted + attention)


def matmul_rate(
    width: int, *, dtype: torch.dtype, device: str, seconds: Callable[[Callable[[], object]], float]
) -> float:
    """FLOP per second of one large product, (rows, width) @ (width, 4 width): the best of 5."""
    rows = 1024 if device == "cpu" else 16384
    x = torch.randn(rows, width, dtype=dtype, device=device)
    weight = torch.randn(4 * width, width, dtype=dtype, device=device)
    linear(x, weight)
    return 8.0 * rows * width * width / min(seconds(lambda: linear(x, weight)) for _ in range(5))


def _recorder(seen: list[tuple[str, Any, int]], name: str) -> Callable[..., None]:
    def record(module: Any, inputs: tuple[torch.Tensor, ...], _output: object) -> None:
        seen.append((name, module, inputs[0].shape[:-1].numel()))

    return record


def floor_seconds(
    work: Work, *, candidates: int, dtype: torch.dtype, device: str, seconds: Callable[[Callable[[], object]], float]
) -> tuple[float, float]:
    """(seconds per candidate, FLOP per second of its linear layers), every product at `candidates` times its rows."""
    total, flop, best = 0.0, 0.0, 0.0
    for (m, k, n), times in work.gemms.items():
        x = torch.randn(candidates * m, k, dtype=dtype, device=device)
        weight = torch.randn(n, k, dtype=dtype, device=device)
        linear(x, weight)
        each = median(seconds(lambda x=x, weight=weight: linear(x, weight)) for _ in range(3)) / candidates
        total += times * each
        flop += times * 2.0 * m * k * n
        best = max(best, 2.0 * m * k * n / each)
    return total + work.other_flop / best, flop / total
