"""Trained prompts (prompt, prefix and P-tuning): no change of weights, but of one shape they can be averaged.

p = sum w_i p_i / sum w_i over the rows that PEFT stores (`prompt_embeddings`; of P-tuning and of a projected prefix
that is the encoder's output, so the encoders are not needed). Rows of prompts that did not begin alike have little to
do with each other, so a mean may be worse than its parts; hence it is asked for by name and never a default.
Reference: Vu et al., SPoT, arXiv 2110.07904 (weighted averages of prompts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from .adapter_folder import DTYPES, check_target, dtype_name, rounded, write_folder
from .card import CardFacts, card_text
from .description import CONFIG_FILE, WEIGHTS_FILE, weights_path
from .errors import BadMethod, BadWeights, IncompatibleAdapters, MalformedAdapter
from .export import ExportReport
from .layer_weights import Weight
from .peft_config import read_config
from .peft_files import widest
from .recipe import Recipe
from .refusals import PROMPT_MEAN, PROMPTS
from .safetensors_header import read_header

KEY = "prompt_embeddings"


@dataclass(frozen=True)
class Prompt:
    """`values` are (rows, dim) in float32; `dtype` is that of the file, `config` its adapter_config.json."""

    name: str
    peft_type: str
    values: Tensor
    dtype: torch.dtype
    config: Mapping[str, object]


def read_prompt(directory: Path, *, name: str | None = None) -> Prompt:
    """Read one prompt; `IncompatibleAdapters` where the adapter is of another kind, `MalformedAdapter` if damaged."""
    owner = name or directory.name
    config = read_config(directory / CONFIG_FILE, owner=owner)
    if config.peft_type not in PROMPTS:
        raise IncompatibleAdapters(
            f"{owner}: {PROMPT_MEAN} is for {', '.join(sorted(PROMPTS))}; it is {config.peft_type or 'untyped'}",
            remedy="mix it with another method",
        )
    path = weights_path(directory, owner)
    headers = read_header(path, owner=owner)
    if list(headers) != [KEY] or len(headers[KEY].shape) != 2 or headers[KEY].dtype not in (*DTYPES, "float64"):
        raise MalformedAdapter(f"{owner}: holds {', '.join(headers) or 'nothing'}, expected one matrix {KEY}")
    with safetensors.safe_open(path, framework="pt") as file:
        values: Tensor = file.get_tensor(KEY)
    if not torch.isfinite(values).all():
        raise MalformedAdapter(f"{owner}: {KEY} holds NaN or infinite values", remedy="train again; it diverged")
    return Prompt(owner, config.peft_type, values.float(), values.dtype, config.raw)


def mean_prompt(prompts: Sequence[Prompt], weights: Sequence[Weight], *, name: str = "mean") -> Prompt:
    """The weighted mean; types and shapes must agree, and the weights must be numbers whose sum is not 0."""
    numbers = [weight for weight in weights if isinstance(weight, int | float)]
    if not prompts or len(numbers) != len(prompts):
        raise BadWeights(f"{PROMPT_MEAN} takes one number per prompt", remedy="a prompt has no modules to weigh apart")
    total = sum(numbers)
    if not abs(total) > 1e-6 * max(map(abs, numbers), default=0.0):
        raise BadWeights(f"the weights sum to {total:g}, so there is no mean", remedy="give weights that do not cancel")
    first = prompts[0]
    for other in prompts[1:]:
        if (other.peft_type, other.values.shape) != (first.peft_type, first.values.shape):
            raise IncompatibleAdapters(
                f"{other.name}: is {other.peft_type} of shape {list(other.values.shape)}, {first.name} is "
                f"{first.peft_type} of shape {list(first.values.shape)}",
                remedy="average prompts of one type, length and base only",
            )
    parts = zip(prompts, numbers, strict=True)
    values = sum((prompt.values.double() * (w / total) for prompt, w in parts), torch.zeros((), dtype=torch.float64))
    return replace(first, name=name, values=values.float(), dtype=widest([prompt.dtype for prompt in prompts]))


def save_prompt(
    prompt: Prompt,
    directory: Path,
    *,
    dtype: str | None = None,
    recipe: Recipe | None = None,
    facts: CardFacts | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write it as PEFT does, with the first prompt's config. Errors as export.save_adapter."""
    chosen = dtype or dtype_name(prompt.dtype)
    if chosen not in DTYPES:
        raise BadMethod(f"dtype is {chosen}", remedy=f"use {', '.join(DTYPES)}")
    check_target(directory, overwrite=overwrite)
    tensors, max_change = rounded({KEY: prompt.values}, DTYPES[chosen], prompt.name)
    config = {**prompt.config, "inference_mode": True}
    base, task = (prompt.config.get(key) for key in ("base_model_name_or_path", "task_type"))
    said = facts or CardFacts(title=prompt.name)

    def card(made: Recipe | None) -> str:
        return card_text(
            said, base_model=str(base) if base else None, task_type=str(task) if task else None, recipe=made
        )

    digests = write_folder(
        directory,
        lambda file: save_file(tensors, file, metadata={"format": "pt"}),
        WEIGHTS_FILE,
        config,
        card,
        recipe and replace(recipe, dtype=chosen),
    )
    return ExportReport(directory, chosen, "peft-uniform", 0, prompt.values.numel(), max_change, digests)


def mix_prompts(
    directories: Sequence[Path],
    weights: Sequence[Weight],
    *,
    names: Sequence[str],
    into: str,
    params: Mapping[str, object],
) -> Prompt:
    """Read and average; an option is `BadMethod`, as there are none."""
    if params:
        raise BadMethod(f"method {PROMPT_MEAN!r} has no option {next(iter(params))!r}", remedy="its options: none")
    return mean_prompt([read_prompt(d, name=n) for d, n in zip(directories, names, strict=True)], weights, name=into)
