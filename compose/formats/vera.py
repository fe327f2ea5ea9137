"""VeRA -> LoRA: delta = diag(b) B[:out] diag(d) A[:, :in], with A (r, max in) and B (max out, r) shared by all modules.

Where the file leaves A and B out they are drawn again as PEFT drew them: Kaiming-uniform, on the CPU, A then B from one
torch.Generator with the config's `projection_prng_key` (PEFT 0.21 tuners/vera/model.py). The largest sizes are those
over all modules of the adapter. Reference: Kopiczko et al., arXiv 2310.11454.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import torch
from torch import Tensor

from ..adapter import Factors
from ..module_shapes import ModuleShape
from ..peft_config import PeftConfig


def vera(parts: Mapping[str, Tensor], shape: ModuleShape, config: PeftConfig) -> Factors:
    """lambda_d goes into A, lambda_b into B; `parts` has the shared `vera_A` and `vera_B` too."""
    del config
    a = parts["vera_d"][:, None] * parts["vera_A"][:, : shape.in_features]
    b = parts["vera_b"][:, None] * parts["vera_B"][: shape.out_features]
    return Factors(a, b)


def projections(rank: int, most_in: int, most_out: int, key: int) -> tuple[Tensor, Tensor]:
    """The shared A (rank, most_in) and B (most_out, rank) of a seed."""
    generator = torch.Generator(device="cpu").manual_seed(key)
    return _kaiming(rank, most_in, generator), _kaiming(most_out, rank, generator)


def _kaiming(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Uniform in +-sqrt(3) sqrt(2 / fan_in), fan_in being the columns; in PEFT's order of operations."""
    bound = sqrt(3.0) * (sqrt(2) / sqrt(columns))
    return torch.empty(rows, columns).uniform_(-bound, bound, generator=generator)
