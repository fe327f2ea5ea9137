"""How fast this machine scores mixes of given adapters on a given base: what `mixhub bench` prints.

Wall-clock seconds, until the device is idle. A step is one `example_losses` of a population; its parts are merging the
factors, the base's forward without its output layer, the output layer, and the rest (batches, losses, Python).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.flop_counter import FlopCounterMode

from ..adapter import LoraAdapter
from ..device import input_device, products
from ..examples import Examples
from ..methods import MergeMethod
from ..mixed_factors import MixedFactors, Stack
from ..module_groups import ModuleGroups
from .loading import LoadedBase, make_scorer
from .output_layer import output_layer

CHUNKS = (256, 512, 1024, 2048, 4096)
"""Token budgets that are tried on a CPU; on a GPU 16 times these."""

WARM_UPS = 2
"""Runs before a size is timed on a GPU: one as usual, one that is captured (`graphs.py`)."""


@dataclass(frozen=True)
class Measured:
    """Of one population at the best chunk. `split` are shares of a step that add up to 1."""

    population: int
    candidates_per_second: float
    split: Mapping[str, float]
    flop_per_candidate: float
    flop_per_second: float
    matmul_rate: float
    """FLOP per second of one large product in the base's dtype, measured beside."""
    memory_bytes: int
    """Peak, of the process (CPU) or of the device."""
    best_chunk: int
    by_chunk: Mapping[int, float]
    """Token budget -> candidates per second."""

    @property
    def share_of_matmul_rate(self) -> float:
        return self.flop_per_second / self.matmul_rate


def measure(
    base: LoadedBase,
    *,
    examples: Examples,
    adapters: Sequence[LoraAdapter],
    method: str = "lorahub",
    params: Mapping[str, object] | None = None,
    groups: ModuleGroups | None = None,
    labels: Mapping[str, str] | None = None,
    population: int = 16,
    repeats: int = 3,
    chunks: Sequence[int] = (),
) -> Measured:
    """Time `population` random mixes, with `groups` of a weight for each, every chunk size `repeats` times: in turn, so
    that a machine that becomes busy slows all of them; on a GPU one size after the other, as graphs are made in the
    first two runs. Errors are those of `make_scorer`."""
    device = input_device(base.model)
    clock = _Clock(device)
    sizes = tuple(chunks) or tuple(c * (16 if device.type == "cuda" else 1) for c in CHUNKS)
    scorer: Any = make_scorer(
        base, examples=examples, adapters=adapters, method=method, params=params, groups=groups, labels=labels,
        token_budget=sizes[0],
    )  # fmt: skip
    crowd = scorer._population
    rows = np.random.default_rng(0).uniform(0, 1, (population, len(scorer.adapter_names)))
    times: dict[int, list[float]] = {size: [] for size in sizes}
    scorer.example_losses(rows[:1])
    crowd.token_budget = 0  # so that the first size begins as the others do
    gpu = device.type == "cuda"
    for size in [size for size in sizes for _ in range(repeats)] if gpu else list(sizes) * repeats:
        if size != crowd.token_budget:
            crowd.forget_graphs()
            crowd.token_budget = size
            for _ in range(WARM_UPS if gpu else 0):
                scorer.example_losses(rows)
        times[size].append(clock.seconds(lambda: scorer.example_losses(rows)))
        if crowd.token_budget < size:  # memory ran out
            times[size].append(float("inf"))
    speeds = {size: population / median(found) for size, found in times.items()}
    best = crowd.token_budget = max(sizes, key=lambda size: speeds[size])
    with crowd.launched_one_by_one(), FlopCounterMode(display=False) as counter:
        scorer.example_losses(rows)
    flop = counter.get_total_flops() / population
    return Measured(
        population=population,
        candidates_per_second=speeds[best],
        split=_split(scorer, rows, clock),
        flop_per_candidate=flop,
        flop_per_second=flop * speeds[best],
        matmul_rate=matmul_rate(base, clock),
        memory_bytes=_peak_memory(device),
        best_chunk=best,
        by_chunk=speeds,
    )


class _Clock:
    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def seconds(self, work: Callable[[], object]) -> float:
        start = self.now()
        work()
        return self.now() - start


def matmul_rate(base: LoadedBase, clock: _Clock) -> float:
    """FLOP per second of (1024, n) @ (n, 4 n), n the width of the base's hidden states, in its number format: the best
    of 5. On a GPU of 16384 rows."""
    first = next(p for p in base.model.parameters() if p.ndim == 2)
    rows, width = (16384 if clock.device.type == "cuda" else 1024), first.shape[1]
    x = torch.randn(rows, width, dtype=first.dtype, device=clock.device)
    weight = torch.randn(4 * width, width, dtype=first.dtype, device=clock.device)
    linear(x, weight)
    with products(tf32=base.tf32):
        seconds: float = min(clock.seconds(lambda: linear(x, weight)) for _ in range(5))
    return float(8 * rows * width * width) / seconds


def _split(scorer: Any, rows: Any, clock: _Clock) -> dict[str, float]:
    """Shares of one step, with a look at the clock before and after each part."""
    parts = {"merge": 0.0, "forward": 0.0, "output layer": 0.0}
    crowd = scorer._population
    whole = crowd.stack
    crowd.stack = _TimedStack(whole, clock, parts)
    try:
        with ExitStack() as stack:
            stack.enter_context(crowd.launched_one_by_one())
            stack.enter_context(_timed(crowd.model, "forward", parts, clock))
            if (head := output_layer(crowd.model)) is not None:
                stack.enter_context(_timed(head, "output layer", parts, clock))
            total = clock.seconds(lambda: scorer.example_losses(rows))
    finally:
        crowd.stack = whole
    parts["forward"] -= parts["output layer"]
    parts["rest"] = total - sum(parts.values())
    return {name: seconds / total for name, seconds in parts.items()}


@contextmanager
def _timed(module: nn.Module, part: str, parts: dict[str, float], clock: _Clock) -> Iterator[None]:
    """Adds the time that `module` takes to `parts[part]`."""
    began = [0.0]

    def before(_module: nn.Module, _inputs: object) -> None:
        began[0] = clock.now()

    def after(_module: nn.Module, _inputs: object, _output: object) -> None:
        parts[part] += clock.now() - began[0]

    handles = module.register_forward_pre_hook(before), module.register_forward_hook(after)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class _TimedStack:
    inner: Stack
    clock: _Clock
    parts: dict[str, float]

    @property
    def method(self) -> MergeMethod:
        return self.inner.method

    @property
    def params(self) -> Mapping[str, object]:
        return self.inner.params

    @property
    def device(self) -> torch.device | None:
        return self.inner.device

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    @property
    def module_shapes(self) -> Mapping[str, tuple[int, int]]:
        return self.inner.module_shapes

    def mix(self, weights: Tensor) -> dict[str, MixedFactors]:
        began = self.clock.now()
        mixed = self.inner.mix(weights)
        self.parts["merge"] += self.clock.now() - began
        return mixed


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
