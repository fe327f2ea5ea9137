"""The output layer only where a token is to be predicted: nothing else of a vocabulary's width is ever computed.

The model's own forward stays as it is; what goes into its output layer is cut down to the wanted rows, so that
whatever the model does to logits afterwards (caps, scales, biases) still happens. Knows nothing of adapters or losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def output_only_at(model: Any, places: Tensor) -> Iterator[None]:
    """While open, the output layer of `model` sees hidden states at `places` only: (wanted,) row numbers of the hidden
    states flattened to (rows * width, hidden), in any order. Its logits are then (wanted, vocabulary)."""
    head = output_layer(model)
    if head is None:
        yield
        return

    def cut(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden: Tensor = inputs[0]
        rows = hidden.reshape(-1, hidden.shape[-1])
        already = len(rows) == len(places)  # the last layer was cut down to them
        return (rows if already else rows.index_select(0, places.to(rows.device)), *inputs[1:])

    handle = head.register_forward_pre_hook(cut)
    try:
        yield
    finally:
        handle.remove()


def output_layer(model: Any) -> nn.Module | None:
    """The layer that turns hidden states into logits, where the model says which one that is."""
    find = getattr(model, "get_output_embeddings", None)
    head = find() if find is not None else None
    return head if isinstance(head, nn.Module) else None


def wanted_logits(logits: Tensor, places: Tensor) -> Tensor:
    """(wanted, vocabulary), also from a model whose output layer could not be cut down and gave all of them."""
    return (
        logits if logits.ndim == 2 else logits.reshape(-1, logits.shape[-1]).index_select(0, places.to(logits.device))
    )
