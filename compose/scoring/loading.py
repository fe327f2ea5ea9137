"""A base model from a local directory, and the scorer that fits its kind.

Never goes to a network, never runs code that comes with a model, never unpickles. Every parameter must come from the
files: a model with randomly initialised parts would be scored without a word otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ..adapter import LoraAdapter
from ..device import AUTO, TF32, check_device, device_of
from ..errors import BaseModelError
from ..examples import Examples
from ..grouped_stack import stack_by_groups
from ..mixed_factors import Stack
from ..module_groups import ModuleGroups
from ..sharded_stack import stack_by_device
from .causal import CausalScorer
from .label_matching import LabelMatchingScorer
from .protocol import Scorer
from .seq2seq import Seq2SeqScorer

Kind = Literal["seq2seq", "causal", "encoder"]
DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    TF32: torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_LOADERS: dict[Kind, Any] = {"seq2seq": AutoModelForSeq2SeqLM, "causal": AutoModelForCausalLM, "encoder": AutoModel}
_UNUSED = ("pooler.",)
"""Parts that scoring does not run, so that they may be missing from the files."""


@dataclass(frozen=True)
class LoadedBase:
    """A frozen base model in eval mode with its tokenizer. `name` is for messages; `tf32`: its float32 products may be
    taken in TF32."""

    model: Any
    tokenizer: Any
    kind: Kind
    name: str
    tf32: bool = False


def load_base(directory: Path, *, dtype: str = "float32", device: str = "cpu") -> LoadedBase:
    """Load a base model in Hugging Face layout: config.json, safetensors and tokenizer files.

    `BaseModelError` when the folder is not such a model, weights are missing, no scorer knows the kind, or the device
    is not there.
    """
    check_device(device)
    if dtype not in DTYPES:
        raise BaseModelError(f"there is no dtype {dtype!r}", remedy=f"use one of: {', '.join(DTYPES)}")
    with _readable(directory):
        config = AutoConfig.from_pretrained(directory, **_LOCAL)
        kind = kind_of(config)
        model, report = _LOADERS[kind].from_pretrained(
            directory,
            config=config,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            output_loading_info=True,
            **_placed(config, device),
            **_LOCAL,
        )
        tokenizer = AutoTokenizer.from_pretrained(directory, **_LOCAL)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(_UNUSED))
    if missing:
        raise BaseModelError(
            f"{directory}: {len(missing)} tensors of {type(model).__name__} are in no file, the first is {missing[0]}",
            remedy="get the whole model; a part of it would be random",
        )
    if device != AUTO and not getattr(model, "is_quantized", False):  # those lie where they were loaded to
        model.to(device)
    model.eval().requires_grad_(False)
    return LoadedBase(model=model, tokenizer=tokenizer, kind=kind, name=directory.name, tf32=dtype == TF32)


def read_kind(directory: Path) -> tuple[Kind, Any]:
    """How the base model in `directory` is scored, and its tokenizer: no weight is read. Errors as `load_base`."""
    with _readable(directory):
        kind = kind_of(AutoConfig.from_pretrained(directory, **_LOCAL))
        return kind, AutoTokenizer.from_pretrained(directory, **_LOCAL)


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    """What transformers says of a folder that is no base model becomes one `BaseModelError`."""
    remedy = "give a folder with config.json, model.safetensors and the tokenizer's files"
    if not (directory / "config.json").is_file():
        raise BaseModelError(f"{directory} is not a base model: it has no config.json", remedy=remedy)
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        if isinstance(error, BaseModelError):
            raise
        if isinstance(error, ImportError) and "bitsandbytes" in str(error):
            raise BaseModelError(
                f"{directory}: its weights are in 8 or 4 bit, which needs bitsandbytes",
                remedy='pip install "mixhub[gpu]", or give the base in full precision',
            ) from error
        raise BaseModelError(f"cannot load the base model {directory}: {error}", remedy=remedy) from error


def _placed(config: Any, device: str) -> dict[str, Any]:
    """Where the weights are loaded to. Those in 8 or 4 bit cannot be moved afterwards, and would by default lie on the
    first GPU; all others are moved."""
    if device == AUTO:
        return {"device_map": AUTO}
    return {"device_map": {"": device}} if getattr(config, "quantization_config", None) else {}


def kind_of(config: Any) -> Kind:
    """How a model of this config is scored."""
    if config.is_encoder_decoder:
        return "seq2seq"
    names = config.architectures or []
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return "causal"
    if any(name.endswith("ForConditionalGeneration") for name in names):
        raise BaseModelError(
            f"{names[0]} takes more than text and cannot be scored", remedy="use the text model alone as the base"
        )
    text_encoder = any(name.endswith(("ForMaskedLM", "ForPreTraining", "ForSequenceClassification")) for name in names)
    if not text_encoder and config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not _is_encoder(names):
        return "causal"
    return "encoder"


def _is_encoder(names: Sequence[str]) -> bool:
    """BertModel and its like stand in the causal table too; a bare `...Model` is an encoder to us."""
    return any(name.endswith("Model") for name in names)


def make_scorer(
    base: LoadedBase,
    *,
    examples: Examples,
    adapters: Sequence[LoraAdapter],
    method: str = "lorahub",
    params: Mapping[str, object] | None = None,
    labels: Mapping[str, str] | None = None,
    token_budget: int | None = None,
    max_new_tokens: int | None = None,
    ends: bool = True,
    groups: ModuleGroups | None = None,
) -> Scorer:
    """The scorer for the base's kind. `params` are the method's, such as {"fold": "lorahub-compat"}; `labels` (label ->
    text) are for encoders, `max_new_tokens` and `ends` (an end token follows the output) for the others.
    With `groups` weight rows have a number for each group of each adapter.

    Errors: those of `stack_adapters`; `IncompatibleAdapters` when the base lacks a module; `BadExamples`.
    """
    first = next(iter(base.model.parameters()))
    # low-precision bases: the adapters stay float32 and their products are rounded to the base's dtype once
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    devices = _devices(base.model, adapters)
    mixing: dict[str, Any] = {"method": method, "params": params, "dtype": dtype}
    if groups is not None:
        stack: Stack = stack_by_groups(adapters, groups, devices, **mixing)
    else:
        stack = stack_by_device(adapters, devices, **mixing)
    shared: dict[str, Any] = {
        "examples": examples,
        "stack": stack,
        "token_budget": token_budget,
        "tf32": base.tf32,
        "base_name": base.name,
    }
    if base.kind == "encoder":
        return LabelMatchingScorer(base.model, base.tokenizer, labels=labels, **shared)
    scorer = Seq2SeqScorer if base.kind == "seq2seq" else CausalScorer
    return scorer(base.model, base.tokenizer, max_new_tokens=max_new_tokens, ends=ends, **shared)


def _devices(model: Any, adapters: Sequence[LoraAdapter]) -> dict[str, torch.device]:
    """Where the adapted modules compute, of those that the base has."""
    modules = dict(model.named_modules())
    paths = dict.fromkeys(path for adapter in adapters for path in adapter.modules)
    return {path: device_of(modules[path]) for path in paths if path in modules}
