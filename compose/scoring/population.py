"""Runs work over candidates x examples in chunks of a bounded number of tokens, each chunk one forward.

The chunks depend on the token budget and on the machine's needs, never on how many candidates an optimizer asks for at
a time; the result of one (candidate, example) pair does not depend on its neighbours. Knows nothing of losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..batched_model import BatchedModel
from ..mixed_factors import Stack

T = TypeVar("T")
Lengths = Sequence[tuple[int, ...]]
"""Per example its lengths in tokens: (input, output) for an encoder-decoder, (input + output,) for a causal model."""

Work = Callable[[Sequence[int], int], Sequence[T]]
"""(examples of the chunk, candidates K) -> K * len(examples) results, candidate-major."""
LossWork = Callable[[Sequence[int], int], Tensor]
"""The same for losses: (K * len(examples),)."""

DEFAULT_TOKEN_BUDGET = 1024
"""Tokens per forward. On a CPU 500 to 1500 are best: smaller ones re-read the weights, larger ones leave the cache."""


class Population:
    """A base model and a stack of adapters, ready to run K mixes at once."""

    def __init__(
        self, model: nn.Module, stack: Stack, *, token_budget: int = DEFAULT_TOKEN_BUDGET, base_name: str
    ) -> None:
        self.model = model
        self.stack = stack
        self.token_budget = token_budget
        self.base_name = base_name
        self._batched = BatchedModel(model, stack.module_shapes, base_name=base_name)
        self._forward_cost = forward_cost(sum(p.numel() for p in model.parameters()))
        self._gradients: list[Tensor] | None = None

    @contextmanager
    def differentiating(self) -> Iterator[list[Tensor]]:
        """While inside, `losses` also appends to the list the gradient of each candidate's summed losses: (K, N)."""
        self._gradients = []
        try:
            yield self._gradients
        finally:
            self._gradients = None

    def losses(
        self, weights: NDArray[np.float64], lengths: Lengths, work: LossWork, *, pad: bool = True
    ) -> list[list[float]]:
        """`run` for work that gives tensors."""
        if self._gradients is None:
            return self.run(weights, lengths, lambda group, count: work(group, count).tolist(), pad=pad)
        rows = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float64)).requires_grad_()

        def differentiated(group: Sequence[int], count: int) -> list[float]:
            found = work(group, count)
            found.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]  # the mix is shared by all groups
            return found.tolist()

        with torch.enable_grad():
            results = self._run_part(rows, lengths, differentiated, pad)
        self._gradients.append(rows.grad if rows.grad is not None else torch.zeros_like(rows))
        return results

    def run(self, weights: NDArray[np.float64], lengths: Lengths, work: Work[T], *, pad: bool = True) -> list[list[T]]:
        """`work` for every candidate of `weights` (K, N) and every example: K lists of E results.

        `pad=False` puts only examples of exactly equal lengths into one forward.
        """
        rows = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float64))
        results: list[list[T]] = []
        longest = max(sum(length) for length in lengths)
        at_once = 1 if self._batched.one_at_a_time else max(1, self.token_budget // longest)
        with torch.inference_mode():
            for part in torch.split(rows, at_once):
                results += self._run_part(part, lengths, work, pad)
        return results

    def _run_part(self, part: torch.Tensor, lengths: Lengths, work: Work[T], pad: bool) -> list[list[T]]:
        """One mix of the factors, then one forward per group of examples."""
        candidates = part.shape[0]
        results: dict[tuple[int, int], T] = {}
        with self._batched.mixed(self.stack.mix(part), candidates=candidates):
            for group in group_examples(
                lengths, candidates=candidates, token_budget=self.token_budget, forward_cost=self._forward_cost, pad=pad
            ):
                found = work(group, candidates)
                for k in range(candidates):
                    for position, example in enumerate(group):
                        results[k, example] = found[k * len(group) + position]
        return [[results[k, example] for example in range(len(lengths))] for k in range(candidates)]


class PopulationScorer:
    """What every scorer says of the mixes that it scores; the one parent of the scorers, which set `_population`."""

    _population: Population

    @property
    def adapter_names(self) -> tuple[str, ...]:
        return self._population.stack.names

    @property
    def method(self) -> str:
        return self._population.stack.method.name

    @property
    def method_params(self) -> Mapping[str, object]:
        return self._population.stack.params

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        raise NotImplementedError

    def losses_and_gradients(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(K, N) weights -> (K, E) losses as `example_losses`, and (K, N): the gradient of each row's mean loss."""
        found = [self._one_with_gradient(row) for row in weights]  # one at a time: a backward keeps all activations
        return np.concatenate([losses for losses, _ in found]), np.array([gradient for _, gradient in found])

    def _one_with_gradient(self, row: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        with self._population.differentiating() as gradients:
            losses = self.example_losses(row[None])
        return losses, gradients[0][0].double().numpy() / losses.shape[1]


def forward_cost(parameters: int) -> int:
    """What one more forward costs, in tokens: reading the weights once, and Python's share of a small model."""
    return 24 + int(2e8 / max(parameters, 1))


def group_examples(
    lengths: Lengths, *, candidates: int, token_budget: int, forward_cost: int, pad: bool = True
) -> list[list[int]]:
    """Cut the examples, sorted by length, into groups that are padded to their longest: the cheapest such cut.

    The cost of a group is candidates x size x padded length, plus `forward_cost` for being a forward of its own. With
    many candidates that gives exact lengths and no padding; with one, few forwards. A group stays within the token
    budget unless it is a single example.
    """
    order = sorted(range(len(lengths)), key=lambda example: lengths[example])
    best: list[tuple[int, int]] = [(0, 0)]  # best[j]: cost of the first j examples, and where their last group starts
    for end in range(1, len(order) + 1):
        options = []
        widest = lengths[order[end - 1]]
        for start in range(end - 1, -1, -1):
            length = lengths[order[start]]
            if not pad and length != lengths[order[end - 1]]:
                break
            widest = tuple(map(max, widest, length))
            tokens = candidates * (end - start) * sum(widest)
            if tokens > token_budget and start < end - 1:
                break
            options.append((best[start][0] + tokens + forward_cost, start))
        best.append(min(options))
    groups = []
    end = len(order)
    while end:
        start = best[end][1]
        groups.append(order[start:end])
        end = start
    return groups[::-1]
