"""The layouts of a base's weights, and each as a matrix (out, in), as the delta of a module always is.

Linear (out, in) as it is; GPT-2's Conv1D (in, out) and embeddings (vocabulary, dim) are transposed; convolutions
(out, in, *kernel) are flattened from the second dimension on. Conv1D is told by the model's type and the layer's name:
the shape of a square weight does not tell.
"""

from __future__ import annotations

from math import prod

from torch import Tensor

from .adapter import EMBEDDING

CONV1D_MODELS = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
CONV1D_LAYERS = frozenset({"c_attn", "c_proj", "c_fc", "q_attn"})


def is_transposed(path: str, kind: str, model_type: str) -> bool:
    """Whether the base keeps this module's weight as (in, out)."""
    return kind == EMBEDDING or (model_type in CONV1D_MODELS and path.rpartition(".")[2] in CONV1D_LAYERS)


def weight_shape(shape: tuple[int, ...], *, transposed: bool) -> tuple[int, int]:
    """(out, in) of a weight of this shape."""
    flat = (shape[0], prod(shape[1:]))
    return flat[::-1] if transposed else flat


def as_matrix(weight: Tensor, *, transposed: bool) -> Tensor:
    """A weight as (out, in)."""
    return weight.T if transposed else weight.flatten(1)
