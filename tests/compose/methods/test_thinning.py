"""Masks, sign election and the methods built from them: exact on small tensors, blind to order, unbiased."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compose.adapter import Factors
from compose.errors import BadMethod
from compose.methods import METHODS
from compose.methods.consensus import elected
from compose.methods.exact import exact
from compose.methods.reference import method_help, method_table
from compose.methods.seeding import generator_for
from compose.methods.slerp import slerp
from compose.methods.sparsify import drop_by_rank, drop_evenly, keep_largest, keep_middle

ROOT = Path(__file__).resolve().parents[3]


def draw(seed: int, rank: int = 2, scaling: float = 1.5) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, 8, generator=generator, dtype=torch.float64)
    return Factors(a, torch.randn(6, rank, generator=generator, dtype=torch.float64), scaling)


def test_the_largest_are_kept_and_of_equal_ones_the_first() -> None:
    delta = torch.tensor([[3.0, -1.0, 2.0], [0.5, -2.0, 2.0]])
    assert keep_largest(delta, 0.5).tolist() == [[3.0, 0.0, 2.0], [0.0, -2.0, 0.0]]
    assert not keep_largest(delta, 0.0).any() and torch.equal(keep_largest(delta, 1.0), delta)


def test_outliers_and_noise_are_left_out() -> None:
    delta = torch.tensor([[9.0, -1.0, 2.0, 0.1, -3.0, 4.0, 0.2, 0.3, -0.4, 0.5]])
    assert keep_middle(delta, 0.3, 0.1).tolist() == [[0.0, 0.0, 2.0, 0.0, -3.0, 4.0, 0.0, 0.0, 0.0, 0.0]]
    assert torch.equal(keep_middle(delta, 1.0, 0.0), delta)


def test_random_dropping_is_unbiased_and_has_the_density() -> None:
    delta = torch.tensor([[1.0, -2.0, 0.5, 4.0]])
    for drop in (lambda g: drop_evenly(delta, 0.4, g), lambda g: drop_by_rank(delta, 0.5, 0.3, g)):
        draws = torch.stack([drop(torch.Generator().manual_seed(seed)) for seed in range(4000)])
        torch.testing.assert_close(draws.mean(0), delta, rtol=0.15, atol=0.03)
    kept = torch.stack([drop_by_rank(delta, 0.5, 0.3, torch.Generator().manual_seed(s)) for s in range(4000)]) != 0
    share = kept.double().mean(0)[0]
    order = delta.abs()[0].argsort()
    torch.testing.assert_close(share[order], torch.tensor([0.2, 0.4, 0.6, 0.8]).double(), rtol=0, atol=0.03)


def test_signs_are_elected_on_weighted_changes() -> None:
    one, two = torch.tensor([[4.0, 1.0, 1.0]]), torch.tensor([[-3.0, 2.0, 0.0]])
    assert elected([one, two], [1.0, 1.0], normalize=False).tolist() == [[4.0, 3.0, 1.0]]
    assert elected([one, two], [1.0, 3.0], normalize=False).tolist() == [[-9.0, 7.0, 1.0]]
    assert elected([one, two], [1.0, 3.0], normalize=True).tolist() == [[-3.0, 1.75, 1.0]]
    assert elected([one, two], [1.0, -1.0], normalize=False).tolist() == [[7.0, -2.0, 1.0]]


SEEDED = [name for name, method in METHODS.items() if any(param.name == "seed" for param in method.params)]


@pytest.mark.parametrize("name", SEEDED)
def test_masks_depend_on_seed_and_content_and_not_on_the_order(name: str) -> None:
    factors, weights = [draw(1), draw(2, 3), draw(3)], [0.5, -0.7, 1.1]
    method = METHODS[name]
    options = {"rank": 6} if method.level == "dense" else {"inner": "dare-linear"}

    def mix(order: tuple[int, ...], seed: int) -> torch.Tensor:
        chosen = [factors[i] for i in order]
        resolved = method.resolve({**options, "seed": seed})
        return method.apply(chosen, [weights[i] for i in order], resolved)[0].delta()

    first = mix((0, 1, 2), 7)
    for order in permutations(range(3)):
        torch.testing.assert_close(mix(order, 7), first, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(mix((0, 1, 2), 8), first)
    draws = [torch.rand(3, generator=generator_for(0, f)) for f in (draw(1), draw(2), draw(1, scaling=2.0))]
    assert not torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.floats(-1.5, 1.5).filter(lambda w: abs(w) > 0.01)), min_size=1, max_size=3)
)
def test_core_space_and_knots_lose_nothing_and_lego_with_enough_units_neither(parts: list[tuple[int, float]]) -> None:
    factors = [draw(i, rank) for i, (rank, _) in enumerate(parts)]
    weights = [w for _, w in parts]
    expected = exact(factors, weights).delta()
    total = sum(rank for rank, _ in parts)
    for name, options in (
        ("core-space", {"inner": "sum"}),
        ("knots", {"density": 1.0, "consensus": "sum"}),
        ("lego", {"rank": total}),
    ):
        found = METHODS[name].apply(factors, weights, METHODS[name].resolve(options))[0]
        assert found.rank <= total
        torch.testing.assert_close(found.delta(), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["core-space", "knots", "lego", "ties", "della", "breadcrumbs"])
def test_these_methods_do_not_see_the_gauge(name: str) -> None:
    one, two = draw(1), draw(2)
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(9), dtype=torch.float64)).Q
    again = Factors(turn @ two.A, two.B @ turn.T, two.scaling)
    options = METHODS[name].resolve({"consensus": "sum", "density": 1.0, "epsilon": 0.0} if name == "della" else {})
    first = METHODS[name].apply([one, two], [0.5, 0.8], options)[0].delta()
    torch.testing.assert_close(
        METHODS[name].apply([one, again], [0.5, 0.8], options)[0].delta(), first, rtol=1e-7, atol=1e-7
    )


def test_lego_puts_equal_units_together() -> None:
    one = draw(1, rank=2)
    merged, _ = METHODS["lego"].apply([one, one, one], [0.2, 0.3, 0.5], {"rank": 2})
    assert merged.rank == 2
    assert torch.linalg.norm(merged.delta() - one.delta()) < 0.1 * torch.linalg.norm(one.delta())


def test_slerp_keeps_the_ends_and_the_length_between_equal_ones() -> None:
    one, two = draw(1), draw(2)
    two = Factors(two.A, two.B, two.scaling * float(one.delta().norm() / two.delta().norm()))
    torch.testing.assert_close(slerp([one, two], [1.0, 0.0]).delta(), one.delta())
    torch.testing.assert_close(slerp([one, two], [0.0, 1.0]).delta(), two.delta())
    for t in (0.25, 0.5, 0.9):
        torch.testing.assert_close(slerp([one, two], [1 - t, t]).delta().norm(), one.delta().norm())
    torch.testing.assert_close(slerp([one, one], [0.3, 0.7]).delta(), one.delta())


@pytest.mark.parametrize("weights", [[0.5, 0.5, 0.5], [1.0, -0.5]])
def test_slerp_is_for_two_with_weights_from_zero(weights: list[float]) -> None:
    with pytest.raises(BadMethod, match="between two adapters"):
        slerp([draw(i) for i in range(len(weights))], weights)


def test_options_are_typed_parsed_and_described() -> None:
    row = METHODS["della"]
    assert row.parse({"density": "0.25", "normalize": "false", "seed": "3", "rank": "8"}) == {
        "density": 0.25, "normalize": False, "seed": 3, "rank": 8,
    }  # fmt: skip
    for bad in ({"density": "much"}, {"density": "1.5"}, {"seed": "-1"}, {"normalize": "maybe"}, {"consensus": "none"}):
        with pytest.raises(BadMethod, match="expected"):
            row.parse(bad)
    with pytest.raises(BadMethod, match="smaller epsilon"):
        row.apply([draw(1)], [1.0], row.resolve({"density": 0.95, "epsilon": 0.2}))
    for name, method in METHODS.items():
        assert f"`{name}`" in method_table() and all(p.summary in method_help() for p in method.params)
        assert method.reference
    assert method_table() in (ROOT / "README.md").read_text(encoding="utf-8"), "python -m compose.methods prints it"
