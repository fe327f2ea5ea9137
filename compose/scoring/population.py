"""Runs work over candidates x examples in chunks of a bounded number of tokens, each chunk one forward.

The chunks depend on the token budget and on the machine's needs, never on how many candidates an optimizer asks for at
a time; the result of one (candidate, example) pair does not depend on its neighbours. Where memory runs out the budget
is halved and the chunk run again. Knows nothing of losses.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..batched_model import BatchedModel
from ..device import compute_devices, products
from ..errors import BaseModelError
from ..lower_layers import LowerLayers, repeat_rows
from ..mixed_factors import Stack, checked_weights
from .agreement import agree
from .chunks import BESIDE, Lengths, at_once, default_token_budget, forward_cost, group_examples, out_of_memory
from .graphs import CudaCapture, ForwardGraphs, Forwards, on_device

T = TypeVar("T")
Work = Callable[[Sequence[int], int], Sequence[T]]
"""(examples of the chunk, candidates K) -> K * len(examples) results, candidate-major."""

LossWork = Callable[[Sequence[int], int], Tensor]
"""The same with the results as one tensor (K * len(examples),), left on the device."""

MOST_CUTS = 64
"""Ways to cut examples into forwards that are remembered."""

Share = tuple[int, int]
"""(i, n): of the forwards of a call, only those whose number is i modulo n."""


class Population:
    """A base model and a stack of adapters, ready to run K mixes at once."""

    def __init__(
        self, model: nn.Module, stack: Stack, *, token_budget: int | None = None, tf32: bool = False, base_name: str
    ) -> None:
        self.model = model
        self.stack = stack
        self.token_budget = token_budget or default_token_budget(model)
        self.base_name, self.tf32 = base_name, tf32
        self.share: Share = (0, 1)
        self._batched = BatchedModel(model, stack.module_shapes, base_name=base_name)
        self.lower = LowerLayers(model, stack.module_shapes)
        self.turn = 0
        """Counts the sets of mixes that were attached so far; within one, results of a mix may be kept."""
        gpu = any(device.type == "cuda" for device in compute_devices(model))
        self._forward_cost = forward_cost(sum(p.numel() for p in model.parameters()), gpu=gpu)
        self._cuts: dict[Hashable, list[list[int]]] = {}
        self._gradients: list[Tensor] | None = None
        self.graphs = self._new_graphs()
        """None: every forward is launched operation by operation."""
        self._standing = [*model.parameters(), *model.buffers()]

    def _new_graphs(self) -> ForwardGraphs | None:
        """Where there is one GPU and nothing of a chunk is up to the host."""
        device = self.stack.device
        if device is None or device.type != "cuda" or self._batched.one_at_a_time:
            return None
        return ForwardGraphs(CudaCapture(device), device=device) if compute_devices(self.model) == {device} else None

    @contextmanager
    def launched_one_by_one(self) -> Iterator[None]:
        """While open, no graph is used: hooks and modes see every operation."""
        graphs, self.graphs = self.graphs, None
        try:
            yield
        finally:
            self.graphs = graphs

    def forget_graphs(self) -> None:
        """To be called where tensors that forwards read, and that are not the model's, are replaced."""
        if self.graphs is not None:
            self.graphs.clear()

    @contextmanager
    def differentiating(self) -> Iterator[list[Tensor]]:
        """While inside, `losses` also appends to the list the gradient of each candidate's summed losses: (K, N)."""
        self._gradients = []
        try:
            yield self._gradients
        finally:
            self._gradients = None

    def run(
        self,
        weights: NDArray[np.float64],
        lengths: Lengths,
        work: Work[T],
        *,
        pad: bool = True,
        shared: int = 0,
        steps: int = 1,
    ) -> list[list[T]]:
        """`work` for every candidate of `weights` (K, N) and every example: K lists of E results, None for those that
        are not of this `share`.

        `pad=False` puts only examples of exactly equal lengths into one forward. `shared` as in `losses`; `steps` is
        how many forwards, one after the other, a group of examples takes.
        """
        found: dict[tuple[int, int], T] = {}
        for rows, group, results in self._chunks(weights, lengths, work, pad, shared, steps):
            places = [(k, example) for k in rows for example in group]
            found.update(zip(places, results, strict=True))
        return [[cast(T, found.get((k, example))) for example in range(len(lengths))] for k in range(len(weights))]

    def losses(
        self, weights: NDArray[np.float64], lengths: Lengths, work: LossWork, *, pad: bool = True, shared: int = 0
    ) -> NDArray[np.float64]:
        """The same for numbers: (K, E), NaN for what is not of this `share`. Nothing is read back from the device
        before all of them are asked for. `shared` is the length of a forward that each candidate has of its own before
        the examples."""
        if self._gradients is not None:
            return self._differentiated(weights, lengths, work, pad, self._gradients)
        found = list(self._chunks(weights, lengths, work, pad, shared, graphs=self.graphs))
        whole = np.full((len(weights), len(lengths)), np.nan)
        if not found:  # none of the forwards is of this share
            return whole
        values = torch.cat([results for _, _, results in found]).double().cpu().numpy()
        sizes = [len(rows) * len(group) for rows, group, _ in found]
        for (rows, group, _), part in zip(found, np.split(values, np.cumsum(sizes)[:-1]), strict=True):
            whole[rows.start : rows.stop, list(group)] = part.reshape(len(rows), len(group))
        return whole

    def _differentiated(
        self, weights: NDArray[np.float64], lengths: Lengths, work: LossWork, pad: bool, gradients: list[Tensor]
    ) -> NDArray[np.float64]:
        """`losses` of all candidates at once, with a backward for each forward; nothing is taken from memory."""
        while True:
            try:
                return self._differentiated_whole(weights, lengths, work, pad, gradients)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                self._halve(lengths, error)

    def _differentiated_whole(
        self, weights: NDArray[np.float64], lengths: Lengths, work: LossWork, pad: bool, gradients: list[Tensor]
    ) -> NDArray[np.float64]:
        rows = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float64)).requires_grad_()
        candidates = len(rows)
        whole = np.full((candidates, len(lengths)), np.nan)
        groups = self._groups(lengths, candidates, pad)
        self.turn += 1
        with (
            torch.enable_grad(),
            products(tf32=self.tf32),
            self.lower.idle(),
            self._batched.mixed(self.stack.mix(rows), candidates=candidates),
        ):
            for group in groups:
                found = work(group, candidates)
                found.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]  # all groups share the mix
                whole[:, list(group)] = found.detach().double().cpu().numpy().reshape(candidates, len(group))
        gradients.append(rows.grad if rows.grad is not None else torch.zeros_like(rows))
        return whole

    def call(
        self, group: Sequence[int], candidates: int, inputs: Mapping[str, Any], own: Mapping[str, Any] | None = None
    ) -> Any:
        """The model's output for `inputs` of the examples in `group`: tensors (rows, ...), repeated here for each of
        the candidates, with what does not depend on a mix taken from memory. `own` is given as it is, to be gone on
        from: states of the candidates, with which nothing is taken from memory."""
        rows = next(value.shape[0] for value in inputs.values() if isinstance(value, Tensor))
        whole = {k: repeat_rows(v, candidates) if isinstance(v, Tensor) else v for k, v in inputs.items()}
        if own:
            return self.model(**{**whole, **own})
        with self.lower.replayed(tuple(group), lambda: self.model(**inputs), rows=rows, candidates=candidates):
            return self.model(**whole)

    def try_replay(self, work: Callable[[], Tensor]) -> None:
        """Never take anything from memory unless `work`, which calls the untouched base through `call`, gives the same
        with it as without."""
        if not self.lower.paths:
            return

        def computed() -> Tensor:
            with self.lower.idle():
                return work()

        with torch.inference_mode():
            work()  # the first time it is recorded, which is a forward of its own
            same = agree(work, computed, self.model)
        if not same:
            self.lower.forget()

    def _chunks(
        self,
        weights: NDArray[np.float64],
        lengths: Lengths,
        work: Callable[[Sequence[int], int], T],
        pad: bool,
        shared: int = 0,
        steps: int = 1,
        graphs: ForwardGraphs | None = None,
    ) -> Iterator[tuple[range, Sequence[int], T]]:
        """(candidates, examples, results) of one forward after the other, of this share of them."""
        numbers = itertools.count()
        rows = torch.from_numpy(np.array(weights, dtype=np.float64, order="C"))
        if self.stack.device is not None:  # else they are mixed from the host, which looks at them itself
            rows = checked_weights(rows, self.stack.names)
        done = 0
        longest = [(shared,), *((*length, shared // BESIDE) for length in lengths)]
        while done < len(rows):
            part = rows[done : done + self._at_once(len(rows) - done, longest)]
            try:
                results = self._run_part(part, lengths, work, pad, numbers, graphs, shared, steps)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                self._halve(longest, error)
                continue
            for group, found in results:
                yield range(done, done + len(part)), group, found
            done += len(part)

    def _run_part(
        self,
        part: Tensor,
        lengths: Lengths,
        work: Callable[[Sequence[int], int], T],
        pad: bool,
        numbers: Iterator[int],
        graphs: ForwardGraphs | None,
        shared: int = 0,
        steps: int = 1,
    ) -> list[tuple[list[int], T]]:
        """One mix of the factors, then one forward per group of examples that is of this share."""
        candidates = part.shape[0]
        groups = self._groups(lengths, candidates, pad, shared, steps)
        which, of = self.share
        mine = [group for group in groups if next(numbers) % of == which]
        if not mine:
            return []

        def forwards(rows: Tensor) -> list[T]:
            self.turn += 1
            with self._batched.mixed(self.stack.mix(rows), candidates=candidates):
                return [work(group, candidates) for group in mine]

        with torch.inference_mode(), products(tf32=self.tf32):
            if graphs is None:
                found = forwards(part if self.stack.device is None else on_device(part, self.stack.device))
            else:
                # not the bound method: what holds its scorer would keep the base in memory
                key = (getattr(work, "__func__", work), candidates, tuple(map(tuple, mine)))
                tensors = graphs.run(key, part, cast(Forwards, forwards), standing=self._addresses())
                found = cast(list[T], tensors)
        return list(zip(mine, found, strict=True))

    def _addresses(self) -> tuple[object, ...]:
        """Of the base's tensors and of the stack: what a graph reads and does not hold itself."""
        return id(self.stack), *(tensor.data_ptr() for tensor in self._standing)

    def _groups(self, lengths: Lengths, candidates: int, pad: bool, shared: int = 0, steps: int = 1) -> list[list[int]]:
        key = (tuple(lengths), candidates, pad, shared, steps, self.token_budget)
        if key not in self._cuts:
            if len(self._cuts) >= MOST_CUTS:
                self._cuts.clear()
            self._cuts[key] = group_examples(
                lengths, candidates=candidates, token_budget=self.token_budget, pad=pad, kept=shared,
                forward_cost=steps * self._forward_cost,
            )  # fmt: skip
        return self._cuts[key]

    def _at_once(self, left: int, lengths: Lengths) -> int:
        return 1 if self._batched.one_at_a_time else at_once(left, lengths, self.token_budget)

    def _halve(self, lengths: Lengths, error: Exception) -> None:
        longest = max(sum(length) for length in lengths)
        if self.token_budget < longest:
            raise BaseModelError(
                f"{self.base_name}: one example of {longest} tokens with one candidate does not fit into memory",
                remedy="shorten the examples, use --dtype bfloat16, or a device with more memory",
            ) from error
        self.token_budget = max(1, self.token_budget // 2)
        self.forget_graphs()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
