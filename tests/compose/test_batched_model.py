"""A base model with hooks computes what K merged models would, and is left as it was."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from compose.adapter import Factors, LoraAdapter
from compose.batched_model import BatchedModel
from compose.errors import IncompatibleAdapters
from compose.stack import stack_adapters


def make_base() -> nn.Sequential:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), Conv1D(3, 6), nn.LayerNorm(3)).double()
    return base.requires_grad_(False)


def make_adapters() -> list[LoraAdapter]:
    torch.manual_seed(1)

    def draw() -> dict[str, Factors]:
        first = Factors(torch.randn(2, 4).double(), torch.randn(6, 2).double(), 0.5)
        second = Factors(torch.randn(2, 6).double(), torch.randn(3, 2).double(), 2.0)
        return {"0": first, "2": second}

    return [LoraAdapter(name=f"a{i}", modules=draw()) for i in range(3)]


WEIGHTS = torch.tensor([[1.0, 0.0, 0.0], [0.5, -0.7, 1.3], [0.0, 0.0, 0.0], [-1.5, 0.2, -0.1]], dtype=torch.float64)


def fused(base: nn.Sequential, deltas: dict[str, torch.Tensor]) -> nn.Sequential:
    copy = deepcopy(base)
    copy[0].weight += deltas["0"]
    copy[2].weight += deltas["2"].T  # Conv1D keeps its weight as (in, out)
    return copy


@pytest.mark.parametrize("method", ["lorahub", "exact", "svd"])
@pytest.mark.parametrize("candidates", [1, 2, 4])
def test_each_candidate_sees_its_own_fused_model(method: str, candidates: int) -> None:
    base, rows = make_base(), 5
    stack = stack_adapters(make_adapters(), method=method, dtype=torch.float64)
    mixes = stack.mix(WEIGHTS[:candidates])
    x = torch.randn(candidates * rows, 7, 4).double()
    with BatchedModel(base, stack.module_shapes).mixed(mixes, candidates=candidates), torch.no_grad():
        found = base(x)
    for k in range(candidates):
        own = slice(k * rows, (k + 1) * rows)
        expected = fused(base, {path: mixed.deltas()[k] for path, mixed in mixes.items()})(x[own])
        torch.testing.assert_close(found[own], expected, rtol=1e-11, atol=1e-12)


def test_with_gradients_on_the_numbers_are_the_same_and_reach_the_weights() -> None:
    base, stack = make_base(), stack_adapters(make_adapters(), dtype=torch.float64)
    model, x = BatchedModel(base, stack.module_shapes), torch.randn(4, 4).double()
    weights = WEIGHTS[:2].clone().requires_grad_()
    with model.mixed(stack.mix(weights), candidates=2):
        found = base(x)
    with model.mixed(stack.mix(WEIGHTS[:2]), candidates=2), torch.no_grad():
        torch.testing.assert_close(base(x), found.detach())
    (found**2).sum().backward()
    assert weights.grad is not None and bool((weights.grad != 0).any())


def test_the_base_is_left_as_it_was_even_after_an_error() -> None:
    base, stack = make_base(), stack_adapters(make_adapters(), dtype=torch.float64)
    x = torch.randn(2, 4).double()
    before = base(x)
    with (
        pytest.raises(ZeroDivisionError),
        BatchedModel(base, stack.module_shapes).mixed(stack.mix(WEIGHTS), candidates=4),
    ):
        raise ZeroDivisionError
    assert torch.equal(base(x), before)
    assert all(not module._forward_hooks for module in base.modules())


def test_rows_that_cannot_be_shared_out_are_refused() -> None:
    base, stack = make_base(), stack_adapters(make_adapters(), dtype=torch.float64)
    with (
        BatchedModel(base, stack.module_shapes).mixed(stack.mix(WEIGHTS), candidates=4),
        pytest.raises(IncompatibleAdapters, match="4 candidates"),
    ):
        base(torch.randn(6, 4).double())


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"nowhere.q": (6, 4)}, r"change nowhere\.q, which tiny \(Sequential\) does not have"),
        ({"0": (6, 5)}, "0 as 6x5 .* in tiny it is 6x4"),
        ({"3": (3, 3)}, "a LayerNorm, not a linear layer"),
    ],
)
def test_adapters_that_do_not_fit_the_base_are_refused_by_module(shapes: dict[str, tuple[int, int]], said: str) -> None:
    with pytest.raises(IncompatibleAdapters, match=said):
        BatchedModel(make_base(), shapes, base_name="tiny")


def test_expert_layers_are_scored_one_candidate_at_a_time() -> None:
    base = nn.ModuleDict({"mlp": nn.ModuleDict({"experts": nn.ModuleList([nn.Linear(2, 2)])})})
    assert BatchedModel(base, {"mlp.experts.0": (2, 2)}).one_at_a_time
    assert not BatchedModel(make_base(), {"0": (6, 4)}).one_at_a_time
