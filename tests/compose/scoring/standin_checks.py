"""What `test_standin_device.py` runs in a process of its own: the scorers on the stand-in device against the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from standin import DEVICE, StandinTensor, traffic
from torch import Tensor
from torch.nn import functional

from compose import cross_attention
from compose.adapter import LoraAdapter
from compose.embedding import embed
from compose.examples import Example, Examples
from compose.module_groups import ModuleGroups
from compose.scoring import LoadedBase, Scorer, make_scorer
from compose.scoring.choices import ChoiceScorer
from compose.scoring.graphs import ForwardGraphs
from compose.scoring.loading import load_base

WEIGHTS = np.array([[0.5, -0.7, 1.3], [1.0, 0.0, 0.0], [-1.5, 0.2, -0.1]])
INSTRUCTION = "bad cafe " * 4
INSTRUCTED = Examples(tuple(Example(INSTRUCTION + i, o) for i, o in [("abc", "cb"), ("jih", "h"), ("abcdef", "fe")]))
UPPER = {"t5": "decoder.block.1.", "llama": ".layers.1.", "gpt2": ".h.1.", "bert": "layer.1."}
Make = Callable[[LoadedBase, Sequence[LoraAdapter]], Any]


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def here_and_there(family: Any, make: Make, *, only: str = "", dtype: torch.dtype = torch.float64) -> tuple[Any, Any]:
    """The same scorer of a base on the CPU and of its copy on the device."""
    made = []
    for device in (torch.device("cpu"), DEVICE):
        base = family.base(dtype=dtype)
        adapters = family.adapters(base.model, scalings=(2.0, 0.5))
        adapters = [replace(a, modules={p: f for p, f in a.modules.items() if only in p}) for a in adapters]
        base.model.to(device)
        made.append(make(base, adapters))
    return made[0], made[1]


def plain(examples: Examples, **options: Any) -> Make:
    return lambda base, adapters: make_scorer(base, examples=examples, adapters=adapters, **options)


# --- the device -----------------------------------------------------------------------------------------------------

ON = torch.arange(6.0).view(2, 3).to(DEVICE)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda: ON + torch.ones(3),
        lambda: torch.ones(3) * ON,
        lambda: ON @ torch.ones(3),
        lambda: torch.cat([ON, torch.ones(2, 3)]),
        lambda: ON.index_select(0, torch.tensor([0])),
        lambda: ON.gather(0, torch.tensor([[0]])),
        lambda: functional.embedding(torch.tensor([1]), ON),
        lambda: ON.masked_fill(torch.ones(3, dtype=torch.bool), 0.0),
        lambda: torch.where(ON > 0, ON, torch.zeros(3)),
        lambda: torch.ones(3)[torch.tensor([1], device=DEVICE)],
        lambda: torch.tensor(1.0).add_(ON[0, 0]),
        lambda: torch.ones(2, 3).add_(ON),
        lambda: functional.linear(ON, torch.ones(3, 3)),
    ],
)  # fmt: skip
def test_it_refuses_tensors_of_two_devices(mixed: Callable[[], Any]) -> None:
    with pytest.raises(RuntimeError, match="expected all tensors to be on standin:0"):
        mixed()


def test_it_takes_from_the_host_what_cuda_takes() -> None:
    assert (ON * torch.tensor(2.0)).tolist() == [[0, 2, 4], [6, 8, 10]]
    assert ON[torch.tensor([1])].tolist() == [[3, 4, 5]]
    changed = ON.clone()
    changed[0] = torch.tensor(7.0)
    changed[torch.tensor([1]), torch.tensor([1])] = torch.tensor(8.0)
    changed[:, 2].copy_(torch.tensor([5.0, 6.0]))
    assert changed.tolist() == [[7, 7, 5], [3, 8, 6]]


def test_it_notes_what_the_host_waits_for_and_sends() -> None:
    with traffic() as (reads, uploads):
        (ON @ ON.T).softmax(-1).add_(1)
        assert (reads, uploads) == ([], [])
        float(ON.sum())
        ON[ON > 2]
        ON.nonzero()
        ON.cpu()
        assert len(reads) == 4 and not uploads
        torch.ones(2).to(DEVICE)
        torch.tensor([1], device=DEVICE)
        assert len(reads) == 4 and len(uploads) == 2


# --- the scorers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lorahub", "exact", "peft-linear", "ties"])
def test_losses_are_those_of_the_cpu(family: Any, examples: Examples, method: str) -> None:
    # rows of several lengths in one padded forward, and of one length each
    for budget, rows in ((10_000, WEIGHTS[:1]), (12, WEIGHTS)):
        here, there = here_and_there(family, plain(examples, method=method, token_budget=budget))
        close(there.example_losses(rows), here.example_losses(rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_in_coarser_formats_are_those_of_the_cpu(family: Any, examples: Examples, dtype: torch.dtype) -> None:
    here, there = here_and_there(family, plain(examples), dtype=dtype)
    tolerance = 5e-6 if dtype == torch.float32 else 0.1  # the encoder's logits are 20 times a cosine
    np.testing.assert_allclose(there.example_losses(WEIGHTS), here.example_losses(WEIGHTS), rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", ["lorahub", "exact"])
@pytest.mark.parametrize("which", ["ragged", "instructed", "upper"])
def test_a_known_chunk_is_captured_without_a_word_to_or_from_the_host(
    family: Any, examples: Examples, method: str, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as transformers has it while a stream is captured: its masks are then made without a look at the positions
    monkeypatch.setattr("transformers.masking_utils.is_tracing", lambda *_: True)
    rows = INSTRUCTED if which == "instructed" else examples
    only = UPPER[family.name] if which == "upper" else ""
    here, there = here_and_there(family, plain(rows, method=method, token_budget=10_000), only=only)
    within: list[tuple[int, int]] = []

    def capture(work: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
        sizes = len(reads), len(uploads)
        results = work()
        within.append((len(reads) - sizes[0], len(uploads) - sizes[1]))
        return lambda: results

    there._population.graphs = ForwardGraphs(capture, device=DEVICE)
    there.example_losses(WEIGHTS)
    with traffic() as (reads, uploads):
        found = there.example_losses(WEIGHTS[::-1])
        # the rows' buffer and the rows; the losses
        assert (within, uploads, reads) == ([(0, 0)], ["copy", "copy"], ["copy"])
    close(found, here.example_losses(WEIGHTS[::-1]))


def test_without_graphs_known_chunks_wait_for_their_losses_only(
    family: Any, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.masking_utils.is_tracing", lambda *_: True)
    _, there = here_and_there(family, plain(examples, token_budget=12))
    there.example_losses(WEIGHTS)
    with traffic() as (reads, uploads):
        there.example_losses(WEIGHTS)
        assert reads == ["copy"] and set(uploads) == {"copy"} and len(uploads) <= len(WEIGHTS)


@pytest.mark.parametrize("method", ["lorahub", "exact", "ties"])
def test_lower_layers_are_replayed(family: Any, examples: Examples, method: str) -> None:
    here, there = here_and_there(family, plain(examples, method=method), only=UPPER[family.name])
    assert there._population.lower.paths == here._population.lower.paths != ()
    for rows in (WEIGHTS, WEIGHTS[:1], WEIGHTS[1:]):
        close(there.example_losses(rows), here.example_losses(rows))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("token_budget", [50, 10_000])
def test_the_shared_prefix_and_the_last_layer_are_cut(families: Any, name: str, token_budget: int) -> None:
    here, there = here_and_there(families[name], plain(INSTRUCTED, token_budget=token_budget))
    assert len(there._prefix) == len(here._prefix) > 0
    assert there._last.cuts == here._last.cuts == (name == "llama")
    assert there._pads and here._pads
    close(there.example_losses(WEIGHTS), here.example_losses(WEIGHTS))


@pytest.mark.parametrize("method", ["lorahub", "exact"])
def test_cross_attention_in_the_cheaper_order(families: Any, examples: Examples, method: str) -> None:
    family = replace(families["t5"], targets=(".q", ".k", ".v", ".o"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_attention, "pays", lambda **_: True)
        here, there = here_and_there(family, plain(examples, method=method, token_budget=10_000))
        close(there.example_losses(WEIGHTS), here.example_losses(WEIGHTS))


def test_weights_per_group(family: Any, examples: Examples) -> None:
    groups = ModuleGroups(("first", "rest"), (("*.0.*",), ("*",)))
    here, there = here_and_there(family, plain(examples, groups=groups))
    rows = np.concatenate([WEIGHTS, -WEIGHTS], axis=1)
    close(there.example_losses(rows), here.example_losses(rows))


def test_choices_are_ranked(generating_family: Any) -> None:
    rows = Examples((Example("abcde ", "edc", ("edc", "a", "ab cd")), Example("fgh", "h", ("i", "h"))))

    def make(base: LoadedBase, adapters: Sequence[LoraAdapter]) -> Scorer:
        return ChoiceScorer(
            lambda made: make_scorer(base, examples=made, adapters=adapters, ends=False),
            examples=rows,
            normalise="acc",
        )

    here, there = here_and_there(generating_family, make)
    close(there.example_losses(WEIGHTS), here.example_losses(WEIGHTS))
    assert there.predictions(WEIGHTS) == here.predictions(WEIGHTS)


@pytest.mark.parametrize("method", ["lorahub", "ties"])
def test_the_same_texts_are_written(family: Any, examples: Examples, method: str) -> None:
    here, there = here_and_there(family, plain(examples, method=method))
    assert there.predictions(WEIGHTS) == here.predictions(WEIGHTS)


@pytest.mark.parametrize("method", ["lorahub", "exact"])
@pytest.mark.parametrize("which", ["ragged", "instructed"])
def test_gradients_are_those_of_the_cpu(family: Any, examples: Examples, method: str, which: str) -> None:
    rows = INSTRUCTED if which == "instructed" else examples
    here, there = here_and_there(family, plain(rows, method=method))
    for found, expected in zip(there.losses_and_gradients(WEIGHTS), here.losses_and_gradients(WEIGHTS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


# --- a base from files ----------------------------------------------------------------------------------------------


def test_a_base_is_loaded_onto_the_device(family: Any, examples: Examples, tmp_path: Path) -> None:
    plain_base = family.base()
    plain_base.model.save_pretrained(tmp_path)
    plain_base.tokenizer.save_pretrained(tmp_path)
    adapters = family.adapters(plain_base.model, scalings=(1.0,))
    found = []
    for device in ("cpu", "standin"):
        base = load_base(tmp_path, dtype="float64", device=device)
        assert {p.device.type for p in base.model.parameters()} == {device}
        found.append(make_scorer(base, examples=examples, adapters=adapters).example_losses(WEIGHTS))
    close(found[1], found[0])


def test_texts_become_points_on_the_device(families: Any, tmp_path: Path) -> None:
    base = families["bert"].base(dtype=torch.float32)
    base.model.save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    found, expected = (embed(["abc", "j", ""], tmp_path, device=device) for device in ("standin", "cpu"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


# --- two devices ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lorahub", "exact", "ties"])
@pytest.mark.parametrize("upper_only", [False, True])
@pytest.mark.parametrize("first", [torch.device("cpu"), DEVICE])
def test_a_base_that_lies_on_two_devices(
    families: Any, examples: Examples, method: str, upper_only: bool, first: torch.device
) -> None:
    second = DEVICE if first.type == "cpu" else torch.device("cpu")
    family = families["llama"]
    made = []
    for spread in (False, True):
        base = family.base()
        adapters = family.adapters(base.model, scalings=(2.0, 0.5))
        if upper_only:
            adapters = [replace(a, modules={p: f for p, f in a.modules.items() if ".layers.1." in p}) for a in adapters]
        if spread:
            inner = base.model.model
            for part, device in (
                (inner.embed_tokens, first), (inner.rotary_emb, first), (inner.layers[0], first),
                (inner.layers[1], second), (inner.norm, second), (base.model.lm_head, second),
            ):  # fmt: skip
                part.to(device)
                add_hook_to_module(part, AlignDevicesHook(execution_device=device, io_same_device=False))
        made.append(make_scorer(base, examples=examples, adapters=adapters, method=method))
    here, there = made
    close(there.example_losses(WEIGHTS), here.example_losses(WEIGHTS))
    assert isinstance(there._model.model.layers[0 if first == DEVICE else 1].mlp.down_proj.weight, StandinTensor)
