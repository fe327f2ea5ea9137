"""T5's cross-attention without keys and values: few output tokens look at many input tokens, so it is cheaper to bring
the queries to the encoder's states than the states to the queries.

With keys X W_k^T and values X W_v^T, per head h:  q_h (X W_k,h^T)^T = (q_h W_k,h) X^T  and  p_h (X W_v,h^T) =
(p_h X) W_v,h^T: the same numbers by another order of products. An adapter's change of W_k or W_v goes along by its
factors. For n output tokens, L input tokens and H heads that costs H n (d_head + L) instead of L d_inner products of
width d; `pays` says which is less. The order of products is that of DeepSeek-V2's absorbed attention
(arXiv 2405.04434, section 2.1.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .cache_argument import given_cache
from .mixed_factors import MixedFactors

KINDS = ("T5Attention",)
"""No bias, no rotation of queries and keys, no scaling, and a position bias that is zero across."""


class CrossAttention:
    """The cross-attention layers of `model` that can run this way; none for most models."""

    def __init__(self, model: nn.Module) -> None:
        self._layers: dict[str, Any] = {
            path: module
            for path, module in model.named_modules()
            if path.endswith(".EncDecAttention") and type(module).__name__ in KINDS and _is_plain(module)
        }

    @contextmanager
    def reordered(self, mixes: Mapping[str, MixedFactors], *, candidates: int) -> Iterator[None]:
        """While open, the layers use the cheaper order, with the `mixes` of their keys and values."""
        with ExitStack() as stack:
            for path, layer in self._layers.items():
                own = layer.forward
                key, value = (_factors(mixes.get(f"{path}.{part}"), candidates) for part in "kv")
                layer.forward = _forward(layer, own, key, value, candidates)
                stack.callback(layer.__dict__.pop, "forward")
            yield


def pays(*, queries: int, keys: int, heads: int, head_width: int) -> bool:
    """Whether the new order takes fewer multiplications, the old one's products being about 1.2 times as fast."""
    return 1.2 * heads * queries * (head_width + keys) < keys * heads * head_width + queries * keys * head_width


Pair = tuple[Tensor, Tensor]
"""A (K, rank, in) and B (K, heads * width, rank) of a mix."""


def _is_plain(layer: Any) -> bool:
    parts = (layer.k, layer.v)
    own = any("forward" in part.__dict__ for part in (layer, *parts))  # accelerate's: weights that come and go
    return not own and all(type(p) is nn.Linear and p.bias is None for p in parts)


def _factors(mixed: MixedFactors | None, candidates: int) -> Pair | None:
    if mixed is None:
        return None
    a = mixed.A if mixed.diagonal is None else mixed.diagonal.unsqueeze(-1) * mixed.A
    return a.expand(candidates, *a.shape[-2:]), mixed.B.expand(candidates, *mixed.B.shape[-2:])


def _forward(
    layer: Any, own: Callable[..., Any], key: Pair | None, value: Pair | None, candidates: int
) -> Callable[..., Any]:
    heads, width = layer.n_heads, layer.key_value_proj_dim

    def forward(hidden_states: Tensor, mask: Tensor | None = None, **others: Any) -> Any:
        states: Tensor | None = others.get("key_value_states")
        if states is None or given_cache(others) is not None:
            return own(hidden_states, mask, **others)
        rows, queries, _ = hidden_states.shape
        if not pays(queries=queries, keys=states.shape[1], heads=heads, head_width=width):
            return own(hidden_states, mask, **others)
        # (heads, rows * queries, width): one product per head for all rows
        q = layer.q(hidden_states).view(rows * queries, heads, width).transpose(0, 1)
        moved = torch.bmm(q, layer.k.weight.view(heads, width, -1))
        if key is not None:
            moved = _plus(moved, q, key[1].reshape(candidates, heads, width, -1), key[0], candidates)
        moved = moved.view(heads, rows, queries, -1).transpose(0, 1).reshape(rows, heads * queries, -1)
        scores = torch.bmm(moved, states.transpose(1, 2)).view(rows, heads, queries, -1)
        seen = torch.bmm(_softmax(scores, mask).view(rows, heads * queries, -1), states)
        seen = seen.view(rows, heads, queries, -1).transpose(0, 1).reshape(heads, rows * queries, -1)
        found = torch.bmm(seen, layer.v.weight.view(heads, width, -1).transpose(1, 2))
        if value is not None:
            back = value[1].reshape(candidates, heads, width, -1).transpose(2, 3)
            found = _plus(found, seen, value[0].transpose(1, 2), back, candidates)
        return layer.o(found.transpose(0, 1).reshape(rows, queries, heads * width)), None, None

    return forward


def _softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return torch.softmax(scores, -1, dtype=None if scores.dtype == torch.float64 else torch.float32).to(scores.dtype)


def _plus(total: Tensor, x: Tensor, left: Tensor, right: Tensor, candidates: int) -> Tensor:
    """`total` (heads, K * n, out) + x (heads, K * n, in) @ left @ right, where `left` and `right` are a candidate's
    own, and the one of them that has four dimensions (K, heads, ...) is also a head's own."""
    heads = x.shape[0]
    x = x.view(heads, candidates, -1, x.shape[-1]).transpose(0, 1)  # (K, heads, n, in)
    for matrix in (left.to(x), right.to(x)):
        # what all heads have in common is one product for all of them, not one for each
        x = x @ matrix if matrix.ndim == 4 else torch.bmm(x.flatten(1, 2), matrix).view(*x.shape[:3], -1)
    return total + x.transpose(0, 1).reshape(total.shape)
