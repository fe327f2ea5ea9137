"""The last layer of a causal model only where a token is to be predicted.

Behind the last layer's attention nothing looks at other positions any more: its output projection, its feed-forward
part and the final norm are needed where a label is predicted and nowhere else. For decoder layers built as Llama's are
(and Mistral's, Qwen2's, ...); whether a model is one of them is tried, not believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..lower_layers import decoder_layers

PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}


class LastLayer:
    """The last decoder layer of `model`, where it has the parts that can be cut; else nothing is ever cut."""

    def __init__(self, model: nn.Module) -> None:
        layers = decoder_layers(model)
        layer: Any = layers[-1] if layers else None
        fits = layer is not None and set(dict(layer.named_children())) == PARTS and hasattr(layer.self_attn, "o_proj")
        self._layer = layer if fits and "forward" not in layer.__dict__ else None

    @property
    def cuts(self) -> bool:
        return self._layer is not None

    def forget(self) -> None:
        self._layer = None

    @contextmanager
    def only_at(self, places: Tensor) -> Iterator[None]:
        """While open, the layer gives hidden states (1, places, hidden) for `places`, row numbers as in
        `output_layer.output_only_at`, of which there are as many for every candidate."""
        layer = self._layer
        if layer is None:
            yield
            return

        def cut(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (_taken(inputs[0], places), *inputs[1:])

        def forward(hidden_states: Tensor, *args: Any, **given: Any) -> Tensor:
            attended, _ = layer.self_attn(layer.input_layernorm(hidden_states), *args, **given)
            hidden = _taken(hidden_states, places) + attended
            found: Tensor = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
            return found.unsqueeze(0)

        handle = layer.self_attn.o_proj.register_forward_pre_hook(cut)
        layer.forward = forward
        try:
            yield
        finally:
            del layer.forward
            handle.remove()


def _taken(hidden: Tensor, places: Tensor) -> Tensor:
    return hidden.reshape(-1, hidden.shape[-1]).index_select(0, places.to(hidden.device))
