"""The forwards of a chunk as one CUDA graph per shape, so that a step is one launch instead of thousands.

Between two chunks of the same shape only the weight rows differ: the base, the stacked factors, the tokens and what is
kept of lower layers lie where they lay. So the rows are the one input, a buffer that stays; a graph holds everything
from the merge to the losses. A shape is run as usual the first time, which also makes what is made only once, captured
the second time, and replayed from then on.

What a graph stands on is found by address (`standing`): when weights were moved, all graphs are dropped; values that
are changed in place are seen by the next replay. Hooks are part of a capture only if they were there when it was made.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from .chunks import out_of_memory

MOST = 8
"""Graphs that are kept; a search uses a population size or two, each with the last, smaller chunk."""

Forwards = Callable[[Tensor], list[Tensor]]
"""(rows on the device) -> the losses of the groups of a chunk, left there."""

Capture = Callable[[Callable[[], list[Tensor]]], Callable[[], list[Tensor]]]
"""Runs work once and gives what runs it again on the same buffers; the results may be the same tensors every time."""


@dataclass(frozen=True)
class _Captured:
    rows: Tensor
    replay: Callable[[], list[Tensor]]


class ForwardGraphs:
    """Graphs by shape, the least recently used dropped first. A failed capture ends them for good, but for
    one that had no memory: everything is then computed as usual, which is said once."""

    def __init__(self, capture: Capture, *, device: torch.device, most: int = MOST) -> None:
        self._capture, self._device, self._most = capture, device, most
        self._known: OrderedDict[Hashable, _Captured | None] = OrderedDict()  # None: run once, not captured yet
        self._standing: Hashable = None
        self.failed = False

    def __len__(self) -> int:
        """Graphs that are held."""
        return sum(one is not None for one in self._known.values())

    def clear(self) -> None:
        """Forget all graphs; shapes are met anew."""
        self._known.clear()

    def run(self, key: Hashable, rows: Tensor, forwards: Forwards, *, standing: Hashable) -> list[Tensor]:
        """`forwards` of `rows` (K, N), which lie on the host. `key` says the shape: all that `forwards` depends on
        besides the rows. The results are the caller's own."""
        if self.failed:
            return forwards(on_device(rows, self._device))
        if standing != self._standing:
            self.clear()
            self._standing = standing
        if key not in self._known:
            found = forwards(on_device(rows, self._device))
            self._remember(key, None)
            return found
        known = self._known[key] or self._captured(rows, forwards)
        if known is None:
            return forwards(on_device(rows, self._device))
        self._remember(key, known)
        known.rows.copy_(pinned(rows, self._device), non_blocking=True)
        return [result.clone() for result in known.replay()]

    def _captured(self, rows: Tensor, forwards: Forwards) -> _Captured | None:
        buffer = on_device(rows, self._device).clone()
        try:
            return _Captured(buffer, self._capture(lambda: forwards(buffer)))
        except Exception as error:  # whatever a kernel does that cannot be captured; launched by itself it may run
            self.clear()
            if out_of_memory(error) or (isinstance(error.__context__, Exception) and out_of_memory(error.__context__)):
                raise torch.OutOfMemoryError(str(error)) from error  # a smaller chunk may have room
            self.failed = True
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            warnings.warn(f"scoring without CUDA graphs, which this model does not allow: {reason}", stacklevel=2)
            return None

    def _remember(self, key: Hashable, what: _Captured | None) -> None:
        self._known[key] = what
        self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)


class CudaCapture:
    """A `Capture` into CUDA graphs of one stream and one memory pool, as torch asks of graphs that share: each is
    replayed alone and its results are copied. A pool ends with the last of its graphs; the next one begins another."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None
        self._pool: Any = None
        self._live: WeakSet[_Replay] = WeakSet()

    def __call__(self, work: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
        here = torch.cuda.current_stream(self._device)
        with torch.cuda.device(self._device), torch.cuda.stream(here):  # current again also after a failed capture
            # of its own, as torch's is the first device's
            self._stream = self._stream or torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            if not self._live:
                self._pool = torch.cuda.graph_pool_handle()
            graph, mode = torch.cuda.CUDAGraph(), "thread_local"  # other threads may use the device meanwhile
            inference = torch.is_inference_mode_enabled()
            try:
                # begun outside of inference mode: torch makes tensors then that all graphs of the process share
                # (pytorch issue 166792), and a capture or replay outside of it could not write to them
                with (
                    torch.inference_mode(False),
                    torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode=mode),
                    torch.inference_mode(inference),
                ):
                    results = work()
            except Exception:
                self._give_up()
                raise
        replay = _Replay(graph, results)
        self._live.add(replay)
        return replay

    def _give_up(self) -> None:
        """Where a capture cannot be ended torch leaves the allocator in it, which then refuses to empty its cache.

        Where it was ended after all, as an error of `work` alone allows, to end it again raises, and the graph gives
        the pool back by itself: done twice, that would end the process."""
        with suppress(AttributeError, RuntimeError):
            torch._C._cuda_endAllocateToPool(self._stream.device_index, self._pool)
            torch._C._cuda_releasePool(self._stream.device_index, self._pool)


class _Replay:
    """A captured graph and where its results lie."""

    def __init__(self, graph: torch.cuda.CUDAGraph, results: list[Tensor]) -> None:
        self._graph, self._results = graph, results

    def __call__(self) -> list[Tensor]:
        self._graph.replay()
        return self._results


def pinned(value: Tensor, device: torch.device) -> Tensor:
    """`value` in memory that a GPU reads by itself while the host goes on; unchanged for other devices."""
    return value.pin_memory() if device.type == "cuda" else value


def on_device(value: Tensor, device: torch.device) -> Tensor:
    """`value` on `device`, without waiting for the copy."""
    return pinned(value, device).to(device, non_blocking=True)
