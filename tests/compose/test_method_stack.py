"""Candidates of different methods in one batch are what each method gives by itself, and what `merge` makes."""

from __future__ import annotations

import pytest
import torch

from compose.adapter import Factors, LoraAdapter
from compose.errors import BadWeights, IncompatibleAdapters
from compose.merge import merge
from compose.method_space import MethodSpace, Setting
from compose.method_stack import stack_methods
from compose.methods import METHODS

SHAPES = {"q": (6, 5), "v": (4, 7)}


def adapters(count: int = 3) -> list[LoraAdapter]:
    draw = torch.Generator().manual_seed(3)

    def made(rank: int, path: str) -> Factors:
        out_features, in_features = SHAPES[path]
        a = torch.randn(rank, in_features, generator=draw, dtype=torch.float64)
        return Factors(a, torch.randn(out_features, rank, generator=draw, dtype=torch.float64), 0.5 * rank)

    paths = (("q", "v"), ("q",), ("q", "v"))
    return [LoraAdapter(name=f"a{i}", modules={path: made(i + 1, path) for path in paths[i]}) for i in range(count)]


WEIGHTS = torch.tensor([[0.5, -0.7, 1.2], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)


def test_a_batch_of_all_methods_is_what_merge_makes_of_each_row() -> None:
    mixed = adapters()
    space = MethodSpace.of([name for name in METHODS if name != "slerp"], {"density": (0.3, 0.9)})
    settings = [setting for setting in space.starts for _ in WEIGHTS]
    rows = torch.cat([torch.from_numpy(space.widened(WEIGHTS.numpy(), one)) for one in space.starts])
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    mixes = stack_methods(mixed, space, dtype=torch.float64).mix(rows[order])
    assert set(mixes) == set(SHAPES)
    for place, k in enumerate(order.tolist()):
        merged = merge(mixed, rows[k, :3].tolist(), method=settings[k].method, **settings[k].params).adapter
        for path, factors in merged.modules.items():
            torch.testing.assert_close(mixes[path].deltas()[place], factors.delta(), rtol=1e-10, atol=1e-11)


def test_slerp_is_one_of_them_for_two_adapters() -> None:
    space, pair = MethodSpace.of(["exact", "slerp"]), adapters(2)
    rows = torch.tensor([[0.3, 0.7, 0.0], [0.3, 0.7, 1.0]], dtype=torch.float64)
    deltas = stack_methods(pair, space, dtype=torch.float64).mix(rows)["q"].deltas()
    for method, delta in zip(space.names, deltas, strict=True):
        torch.testing.assert_close(delta, merge(pair, [0.3, 0.7], method=method).adapter.modules["q"].delta())


def test_weights_alone_are_mixed_as_the_baselines_are() -> None:
    space = MethodSpace.of(["ties", "exact"])
    stack = stack_methods(adapters(), space, dtype=torch.float64)
    whole = torch.from_numpy(space.widened(WEIGHTS.numpy(), Setting("exact", {})))
    for path, mixed in stack.mix(WEIGHTS).items():
        torch.testing.assert_close(mixed.deltas(), stack.mix(whole)[path].deltas())
    assert stack.method.name == "exact"


def test_base_and_single_adapters_are_the_same_by_exact_and_by_lorahub_the_uniform_mix_is_not() -> None:
    space, mixed = MethodSpace.of(["exact", "lorahub"]), adapters()
    rows = torch.cat([torch.zeros(1, 3), torch.full((1, 3), 1 / 3), torch.eye(3)]).double().numpy()
    stack = stack_methods(mixed, space, dtype=torch.float64)
    one, other = (stack.mix(torch.from_numpy(space.widened(rows, way)))["q"].deltas() for way in space.starts)
    torch.testing.assert_close(one[[0, 2, 3, 4]], other[[0, 2, 3, 4]])
    torch.testing.assert_close(one[2], mixed[0].modules["q"].delta())
    assert (one[1] - other[1]).abs().max() > 0.1


def test_rows_of_another_width_and_adapters_that_a_method_cannot_mix_are_refused() -> None:
    space = MethodSpace.of(["exact", "lorahub"])
    with pytest.raises(BadWeights, match="search over methods"):
        stack_methods(adapters(), space).mix(torch.zeros(1, 5))
    with pytest.raises(IncompatibleAdapters):
        stack_methods(adapters(), MethodSpace.of(["exact", "lorahub"], {"fold": "lorahub-compat"}))
