"""A base that accelerate spread over several places is scored as one that lies in one: the same hooks, in float64.

On a machine without GPUs the places are memory and disk: weights that are loaded when a module runs and dropped after
it, by the hooks that also move data between GPUs. Where factors lie when there are two devices is seen with `meta` as
the second one: its tensors have a place and a shape and no values.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from compose.batched_model import BatchedModel
from compose.device import compute_devices, device_of, input_device
from compose.examples import Example, Examples
from compose.scoring import LoadedBase, make_scorer
from compose.sharded_stack import stack_by_device
from compose.stack import stack_adapters

WEIGHTS = np.array([[0.3, -0.5, 1.0], [0.0, 1.0, 0.0]])
LONG = Examples(tuple(Example("abcde fghi " * n, "abc"[:n]) for n in (1, 2, 3)))

MAPS: dict[str, tuple[Any, dict[str, str]]] = {
    "llama": (
        AutoModelForCausalLM,
        {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu",
         "model.rotary_emb": "cpu", "lm_head": "disk"},
    ),
    "gpt2": (
        AutoModelForCausalLM,
        {"transformer.wte": "disk", "transformer.wpe": "disk", "transformer.drop": "cpu", "transformer.h.0": "disk",
         "transformer.h.1": "cpu", "transformer.ln_f": "cpu", "lm_head": "disk"},
    ),
    "t5": (
        AutoModelForSeq2SeqLM,
        {"shared": "cpu", "encoder": "cpu", "decoder.embed_tokens": "cpu", "decoder.block.0": "cpu",
         "decoder.block.1": "disk", "decoder.final_layer_norm": "cpu", "decoder.dropout": "cpu", "lm_head": "cpu"},
    ),
}  # fmt: skip


def spread(family: Any, folder: Path) -> LoadedBase:
    """The family's base, partly on disk."""
    plain = family.base()
    plain.model.save_pretrained(folder)
    loader, places = MAPS[family.name]
    model = loader.from_pretrained(folder, device_map=places, offload_folder=folder / "offload", dtype=torch.float64)
    model.eval().requires_grad_(False)
    return LoadedBase(model, plain.tokenizer, family.kind, family.name)


@pytest.mark.parametrize("upper", [False, True])
def test_a_base_that_lies_partly_on_disk_scores_and_writes_the_same(
    generating_family: Any, tmp_path: Path, upper: bool
) -> None:
    plain, there = generating_family.base(), spread(generating_family, tmp_path)
    assert any(p.is_meta for p in there.model.parameters()), "a part is really on disk"
    adapters = generating_family.adapters(plain.model, scalings=(2.0,))
    if upper:  # then the lower layers are computed once and replayed
        last = ("decoder.block.1.", "model.layers.1.", "transformer.h.1.")
        adapters = [replace(a, modules={p: f for p, f in a.modules.items() if p.startswith(last)}) for a in adapters]
    expected, found = (make_scorer(base, examples=LONG, adapters=adapters) for base in (plain, there))
    np.testing.assert_allclose(found.example_losses(WEIGHTS), expected.example_losses(WEIGHTS), rtol=0, atol=1e-9)
    assert found.predictions(WEIGHTS) == expected.predictions(WEIGHTS)
    assert any(p.is_meta for p in there.model.parameters()), "and has gone back there"


def test_tokens_go_where_the_embeddings_are_computed_not_where_they_are_kept(families: Any, tmp_path: Path) -> None:
    there = spread(families["gpt2"], tmp_path)
    assert there.model.device.type == "meta"
    assert input_device(there.model) == torch.device("cpu")
    assert compute_devices(there.model) == {torch.device("cpu")}


# --- two devices ----------------------------------------------------------------------------------------------------

FIRST, SECOND = torch.device("cpu"), torch.device("meta")


def put_on_two(model: Any) -> None:
    """A Llama's second layer, norm and output layer go to the second device, with accelerate's hooks at the border."""
    for part in (model.model.layers[1], model.model.norm, model.lm_head):
        part.to(SECOND)
        add_hook_to_module(part, AlignDevicesHook(execution_device=SECOND))


class Moves(TorchDispatchMode):
    """Shapes of the tensors that are moved from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func._schema.name in ("aten::to", "aten::_to_copy", "aten::copy_") and found.device != args[0].device:
            self.shapes.append(tuple(found.shape))
        return found


@pytest.mark.parametrize("method", ["lorahub", "exact", "svd"])
def test_on_two_devices_factors_lie_with_their_modules_and_only_hidden_states_move(families: Any, method: str) -> None:
    family = families["llama"]
    base = family.base()
    adapters = family.adapters(base.model, scalings=(1.0,))
    put_on_two(base.model)
    assert input_device(base.model) == FIRST and compute_devices(base.model) == {FIRST, SECOND}
    devices = {path: device_of(base.model.get_submodule(path)) for path in adapters[0].modules}
    assert set(devices.values()) == {FIRST, SECOND}
    stack = stack_by_device(adapters, devices, method=method, dtype=torch.float64)
    mixed = stack.mix(torch.from_numpy(WEIGHTS))
    assert {path: factors.A.device for path, factors in mixed.items()} == devices
    assert {path: factors.B.device for path, factors in mixed.items()} == devices
    tokens = torch.full((3 * len(WEIGHTS), 7), 4)
    batched = BatchedModel(base.model, stack.module_shapes)
    with torch.inference_mode(), batched.mixed(mixed, candidates=len(WEIGHTS)), Moves() as moves:
        logits = base.model(input_ids=tokens, use_cache=False).logits
    assert logits.device == SECOND and logits.shape[:2] == tokens.shape
    factors = {tuple(f.shape) for one in mixed.values() for f in (one.A, one.B)}
    assert (*tokens.shape, 16) in moves.shapes and not factors & set(moves.shapes)


@pytest.mark.parametrize("method", ["lorahub", "exact", "ties", "svd"])
def test_a_stack_in_parts_mixes_as_one_stack(families: Any, method: str) -> None:
    family = families["llama"]
    adapters = family.adapters(family.base().model, scalings=(2.0, 0.5))
    # one of them changes modules of one device only
    lower = {path: factors for path, factors in adapters[2].modules.items() if ".layers.0." in path}
    adapters[2] = replace(adapters[2], modules=lower)
    places = {path: torch.device("cpu:0" if ".layers.1." in path else "cpu") for path in adapters[0].modules}
    whole = stack_adapters(adapters, method=method, dtype=torch.float64)
    parts = stack_by_device(adapters, places, method=method, dtype=torch.float64)
    assert type(parts) is not type(whole)
    assert (parts.names, parts.method, dict(parts.params)) == (whole.names, whole.method, dict(whole.params))
    assert dict(parts.module_shapes) == dict(whole.module_shapes)
    rows = torch.from_numpy(WEIGHTS)
    expected, found = whole.mix(rows), parts.mix(rows)
    assert set(found) == set(expected)
    for path, factors in found.items():
        torch.testing.assert_close(factors.deltas(), expected[path].deltas(), rtol=0, atol=1e-12)
