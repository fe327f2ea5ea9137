"""In coarse formats rounding is told from a mistake: what is right is kept, lost masks and wrong positions are seen."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from compose.examples import Example, Examples
from compose.scoring import LoadedBase, make_scorer
from compose.scoring.agreement import agree

INSTRUCTION = "bad cafe " * 4
ROWS = Examples(tuple(Example(i, o) for i, o in [("abc jih", "ij"), ("a", "abcd"), ("fgh abcde jihgf ab", "fgh")]))
INSTRUCTED = Examples(tuple(replace(row, input=INSTRUCTION + row.input) for row in ROWS))
UPPER = {"t5": "decoder.block.1", "llama": ".layers.1.", "gpt2": ".h.1.", "bert": "layer.1."}
coarse = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


def base_of(family: Any, dtype: torch.dtype, seed: int) -> LoadedBase:
    """Weights four times as large as they are drawn: in an untrained model attention hardly changes anything."""
    torch.manual_seed(seed)
    model = family.build()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(4)
    base: LoadedBase = replace(family.base(), model=model.to(dtype).eval().requires_grad_(False))
    return base


def scorer_of(family: Any, base: LoadedBase, rows: Examples, *, upper: bool = False) -> Any:
    adapters = family.adapters(base.model, scalings=(1.0,))
    if upper:
        part = UPPER[family.name]
        adapters = [replace(a, modules={p: f for p, f in a.modules.items() if part in p}) for a in adapters]
    return make_scorer(base, examples=rows, adapters=adapters)


def broken(model: Any, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """From now on `model` is given `change` of its arguments as the argument `name`, where it is given that at all."""
    forward = model.forward

    def wrong(**given: Any) -> Any:
        return forward(**{**given, name: change(given)} if given.get(name) is not None else given)

    wrong.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]  # functions take attributes
    model.forward = wrong


def all_ones(given: dict[str, Any]) -> Tensor:
    return torch.ones_like(given["attention_mask"])


def from_the_first_column(given: dict[str, Any]) -> Tensor:
    return torch.arange(given["input_ids"].shape[1])[None]


# --- right -----------------------------------------------------------------------------------------------------------


@coarse
@pytest.mark.parametrize("seed", range(4))
def test_what_is_right_is_kept(family: Any, dtype: torch.dtype, seed: int) -> None:
    base = base_of(family, dtype, seed)
    assert scorer_of(family, base, ROWS, upper=True)._population.lower.paths
    if family.kind == "causal":
        scorer = scorer_of(family, base, INSTRUCTED)
        assert scorer._pads and len(scorer._prefix) >= len(INSTRUCTION)
        assert scorer._last.cuts == (family.name == "llama")


# --- wrong -----------------------------------------------------------------------------------------------------------


@coarse
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_model_that_loses_its_mask_is_not_padded(families: Any, name: str, dtype: torch.dtype, seed: int) -> None:
    base = base_of(families[name], dtype, seed)
    broken(base.model, "attention_mask", all_ones)
    assert not scorer_of(families[name], base, ROWS)._pads


@coarse
@pytest.mark.parametrize("seed", range(4))
def test_a_model_that_counts_padding_as_positions_is_not_padded(families: Any, dtype: torch.dtype, seed: int) -> None:
    base = base_of(families["gpt2"], dtype, seed)  # Llama's positions are relative
    broken(base.model, "position_ids", from_the_first_column)
    assert not scorer_of(families["gpt2"], base, ROWS)._pads


@coarse
@pytest.mark.parametrize("seed", range(4))
def test_a_model_that_forgets_how_long_the_prefix_is_shares_none(families: Any, dtype: torch.dtype, seed: int) -> None:
    base = base_of(families["gpt2"], dtype, seed)
    forward = base.model.forward

    def wrong(**given: Any) -> Any:
        return forward(**given, position_ids=from_the_first_column(given))

    base.model.forward = wrong
    assert len(scorer_of(families["gpt2"], base, INSTRUCTED)._prefix) == 0


@coarse
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["t5", "bert"])
def test_a_lost_mask_of_an_encoder_is_no_rounding(families: Any, name: str, dtype: torch.dtype, seed: int) -> None:
    model = base_of(families[name], dtype, seed).model
    if name == "bert":
        for parameter in model.parameters():  # its residual stream is normalised after every part
            if parameter.ndim == 2:
                parameter.data.mul_(4)
    row = torch.randint(3, 13, (1, 9), generator=torch.Generator().manual_seed(seed))
    ids = torch.cat([row, torch.zeros(1, 9, dtype=torch.int64)], 1)
    mask = torch.cat([torch.ones(1, 9), torch.zeros(1, 9)], 1).long()

    def hidden(ids: Tensor, mask: Tensor) -> Tensor:
        if name == "bert":
            return model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :9]  # type: ignore[no-any-return]  # of Any
        labels = torch.tensor([[0, 4, 5]])
        return model(input_ids=ids, attention_mask=mask, decoder_input_ids=labels).logits  # type: ignore[no-any-return]  # of Any

    with torch.inference_mode():
        assert agree(lambda: hidden(ids, mask), lambda: hidden(row, torch.ones_like(row)), model)
        assert not agree(lambda: hidden(ids, torch.ones_like(ids)), lambda: hidden(row, torch.ones_like(row)), model)


@pytest.mark.parametrize(("dtype", "small", "large"), [(torch.float64, 1e-11, 1e-9), (torch.float32, 1e-5, 1e-3)])
def test_in_fine_formats_a_fixed_part_of_the_largest_logit_is_allowed(
    dtype: torch.dtype, small: float, large: float
) -> None:
    model, truth = torch.nn.Linear(2, 2, dtype=dtype), torch.tensor([100.0, 1.0], dtype=dtype)
    assert agree(lambda: truth + 100 * small, lambda: truth, model)
    assert not agree(lambda: truth + 100 * large, lambda: truth, model)
    assert not agree(lambda: truth[:1], lambda: truth, model)


@coarse
def test_no_number_is_no_agreement_and_no_hook_is_left(families: Any, dtype: torch.dtype) -> None:
    model = base_of(families["llama"], dtype, 0).model
    truth = torch.zeros(3, dtype=dtype)
    assert not agree(lambda: truth + float("nan"), lambda: truth, model)
    assert not any(module._forward_hooks for module in model.modules())
