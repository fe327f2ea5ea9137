"""The cosine from the factors is that of the dense deltas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from compose.adapter import Factors, LoraAdapter
from compose.similarity import delta_cosine, delta_product

Make = Callable[..., LoraAdapter]


def flat(adapter: LoraAdapter, paths: tuple[str, ...] = ("a", "b", "c")) -> torch.Tensor:
    zero = torch.zeros(5, 7, dtype=torch.float64)
    return torch.cat([(adapter.modules[p].delta() if p in adapter.modules else zero).flatten() for p in paths])


@pytest.mark.parametrize(("rank", "paths"), [(2, ("a", "b")), (3, ("b", "c")), (1, ("c",))], ids=str)
def test_it_equals_the_cosine_of_the_dense_deltas(random_adapter: Make, rank: int, paths: tuple[str, ...]) -> None:
    one, other = random_adapter(1, scaling=2.0), random_adapter(2, rank=rank, paths=paths, scaling=-0.5)
    dense = torch.nn.functional.cosine_similarity(flat(one), flat(other), dim=0).item()
    assert delta_cosine(one, other) == pytest.approx(dense, abs=1e-12)
    assert delta_product(one, other) == pytest.approx(float(flat(one) @ flat(other)))


def test_strength_and_gauge_do_not_count_and_the_sign_does(random_adapter: Make) -> None:
    one = random_adapter(1)
    turn = torch.tensor([[2.0, 1.0], [0.5, -3.0]], dtype=torch.float64)
    turned = {p: Factors(turn @ f.A, f.B @ torch.linalg.inv(turn), 0.3 * f.scaling) for p, f in one.modules.items()}
    assert delta_cosine(one, replace(one, modules=turned)) == pytest.approx(1.0)
    negative = {p: replace(f, scaling=-f.scaling) for p, f in one.modules.items()}
    assert delta_cosine(one, replace(one, modules=negative)) == pytest.approx(-1.0)


def test_an_adapter_that_changes_nothing_is_like_no_other(random_adapter: Make) -> None:
    one = random_adapter(1)
    idle = replace(one, modules={p: replace(f, B=torch.zeros_like(f.B)) for p, f in one.modules.items()})
    assert delta_cosine(one, idle) == 0.0 and delta_cosine(idle, idle) == 0.0
