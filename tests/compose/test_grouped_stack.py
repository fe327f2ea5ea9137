"""A stack by groups is `merge` with weights by globs, for every method; equal weights over the groups are no groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch

from compose.adapter import LoraAdapter
from compose.errors import BadWeights, SearchError
from compose.group_words import module_groups
from compose.grouped_stack import stack_by_groups
from compose.merge import merge
from compose.methods import METHODS
from compose.module_groups import ModuleGroups, by_adapter
from compose.stack import stack_adapters

Make = Callable[..., LoraAdapter]
PATHS = tuple(f"layers.{i}.{part}" for i in range(3) for part in ("attn.q", "mlp.up"))
ROWS = torch.tensor([[0.5, 0.25, 0.75, 1.0], [0.0, 0.125, 0.375, 0.0], [0.5, 0.5, 0.25, 0.25]], dtype=torch.float64)


@pytest.fixture
def two(random_adapter: Make) -> list[LoraAdapter]:
    return [random_adapter(1, paths=PATHS, scaling=1.5), random_adapter(2, paths=PATHS, scaling=1.5)]


@pytest.mark.parametrize("text", ["layers:2", "attn,mlp"])
@pytest.mark.parametrize(
    ("method", "params"), [*((name, {}) for name in METHODS), ("lorahub", {"fold": "lorahub-compat"})]
)
def test_the_mix_is_that_of_merge_with_weights_by_globs(
    two: list[LoraAdapter], text: str, method: str, params: Mapping[str, object]
) -> None:
    groups = module_groups(text, PATHS)
    stack = stack_by_groups(two, groups, method=method, params=params, dtype=torch.float64)
    mixed = stack.mix(ROWS)
    assert list(mixed) == list(stack.module_shapes) == list(PATHS)
    for k, row in enumerate(ROWS.tolist()):
        merged = merge(two, by_adapter(row, groups), method=method, **params).adapter
        for path in PATHS:
            torch.testing.assert_close(mixed[path].deltas()[k], merged.modules[path].delta(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["exact", "lorahub", "peft-linear"])
def test_equal_weights_over_the_groups_are_the_mix_without_groups(two: list[LoraAdapter], method: str) -> None:
    groups = module_groups("layers:3", PATHS)
    weights = torch.tensor([[0.7, -0.3], [0.0, 1.0]], dtype=torch.float64)
    mixed = stack_by_groups(two, groups, method=method, dtype=torch.float64).mix(weights.repeat_interleave(3, dim=1))
    whole = stack_adapters(two, method=method, dtype=torch.float64).mix(weights)
    for path in PATHS:
        torch.testing.assert_close(mixed[path].deltas(), whole[path].deltas(), rtol=1e-12, atol=1e-12)


def test_adapters_of_other_modules_are_mixed_where_they_have_them(random_adapter: Make) -> None:
    """One adapter lacks a whole group; its weight there changes nothing."""
    adapters = [random_adapter(1, paths=PATHS), random_adapter(2, paths=PATHS[:2])]
    stack = stack_by_groups(adapters, module_groups("layers:3", PATHS), method="exact", dtype=torch.float64)
    assert stack.names[3:] == ("adapter-2 [layer 0]", "adapter-2 [layer 1]", "adapter-2 [layer 2]")
    row = torch.tensor([[1.0, 1.0, 1.0, 0.5, 0.0, 0.0]], dtype=torch.float64)
    other = row.clone()
    other[0, 4:] = 9.0
    for path, mixed in stack.mix(row).items():
        assert torch.equal(mixed.deltas(), stack.mix(other)[path].deltas())


def test_a_gradient_reaches_every_group(two: list[LoraAdapter]) -> None:
    stack = stack_by_groups(two, module_groups("layers:2", PATHS), method="exact", dtype=torch.float64)
    rows = ROWS[:1].clone().requires_grad_()
    sum(mixed.deltas().square().sum() for mixed in stack.mix(rows).values()).backward()
    assert rows.grad is not None and bool((rows.grad != 0).all())


def test_a_row_of_another_length_and_a_module_without_group_are_refused(two: list[LoraAdapter]) -> None:
    groups = module_groups("layers:2", PATHS)
    with pytest.raises(BadWeights, match=r"adapter-1 \[layers 0-1\]"):
        stack_by_groups(two, groups).mix(ROWS[:, :2])
    with pytest.raises(SearchError, match="fit no group"):
        stack_by_groups(two, ModuleGroups(("one",), (("layers.0.*",),)))
