"""The identities that each merge method must keep, on float64 factors so that a wrong term cannot hide in rounding."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compose.adapter import Factors
from compose.errors import BadMethod, IncompatibleAdapters
from compose.methods import METHODS, find_method
from compose.methods.exact import exact
from compose.methods.factor_sum import pad_rank
from compose.methods.lorahub import lorahub
from compose.methods.method import LEVELS
from compose.methods.params import Value
from compose.methods.peft_linear import peft_linear
from compose.methods.svd import svd

IN, OUT = 9, 7
LINEAR = [name for name, method in METHODS.items() if method.level == "delta" and not method.nonlinear]
KEEP_ALL: dict[str, dict[str, Value]] = {
    "breadcrumbs": {"density": 1.0, "outliers": 0.0},
    "core-space": {"density": 1.0},
    "dare-linear": {"density": 1.0},
    "dare-ties": {"density": 1.0},
    "della": {"density": 1.0, "epsilon": 0.0},
    "knots": {"density": 1.0},
    "magnitude-prune": {"density": 1.0},
    "ties": {"density": 1.0},
}
"""The options with which a method that thins out drops nothing."""
WEIGHTS = st.floats(-1.5, 1.5).filter(lambda w: abs(w) > 1e-3)


def draw(seed: int, rank: int = 3, scaling: float = 2.0) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, IN, generator=generator, dtype=torch.float64)
    return Factors(a, torch.randn(OUT, rank, generator=generator, dtype=torch.float64), scaling)


def apply(name: str, factors: Sequence[Factors | None], weights: Sequence[float], **options: Value) -> Factors:
    return METHODS[name].apply(factors, weights, METHODS[name].resolve(options))[0]


def weighted_sum(factors: Sequence[Factors | None], weights: Sequence[float]) -> Tensor:
    """The truth that exact methods must reach, by dense matrices."""
    total = torch.zeros(OUT, IN, dtype=torch.float64)
    for one, weight in zip(factors, weights, strict=True):
        if one is not None:
            total += weight * one.scaling * one.B @ one.A
    return total


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scaling", [2.0, 0.7, -1.5])
def test_one_adapter_at_weight_one_comes_back(name: str, scaling: float) -> None:
    one = draw(1, scaling=scaling)
    merged = apply(name, [one], [1.0], **KEEP_ALL.get(name, {}))
    assert merged.scaling == 1.0
    close(merged.delta(), one.delta())


@pytest.mark.parametrize("name", METHODS)
def test_weights_of_zero_give_no_change(name: str) -> None:
    assert not apply(name, [draw(1), draw(2)], [0.0, 0.0]).delta().any()


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_adapters_does_not_matter(name: str) -> None:
    factors, weights = [draw(1), draw(2, rank=5), draw(3)], [0.5, -0.7, 1.1]
    if name == "slerp":
        factors, weights = factors[:2], [0.5, 0.7]
    if name == "lorahub":
        assert apply(name, factors, weights).rank == 5
    options: dict[str, Value] = {"rank": 7} if METHODS[name].level == "dense" else {}
    turned = apply(name, factors[::-1], weights[::-1], **options)
    close(apply(name, factors, weights, **options).delta(), turned.delta())


@pytest.mark.parametrize("name", METHODS)
def test_an_absent_module_is_a_zero_delta(name: str) -> None:
    one, zero = draw(1), Factors(torch.zeros(2, IN).double(), torch.zeros(OUT, 2).double(), 3.0)
    options: dict[str, Value] = {"rank": 3} if METHODS[name].level == "dense" else {}
    close(
        apply(name, [one, None], [0.6, 2.0], **options).delta(), apply(name, [one, zero], [0.6, 2.0], **options).delta()
    )


@pytest.mark.parametrize("name", METHODS)
def test_inputs_are_not_changed_and_the_dtype_is_kept(name: str) -> None:
    factors = [Factors(f.A.float(), f.B.float(), f.scaling) for f in (draw(1), draw(2))]
    before = [(f.A.clone(), f.B.clone()) for f in factors]
    merged = apply(name, factors, [0.3, 0.4 if name == "slerp" else -0.4])
    assert merged.A.dtype == merged.B.dtype == torch.float32
    assert all(torch.equal(f.A, a) and torch.equal(f.B, b) for f, (a, b) in zip(factors, before, strict=True))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 4), WEIGHTS, st.floats(0.1, 4)), min_size=1, max_size=4))
def test_exact_is_the_weighted_sum_of_deltas_for_any_ranks(parts: list[tuple[int, float, float]]) -> None:
    factors = [draw(i, rank=rank, scaling=s) for i, (rank, _, s) in enumerate(parts)]
    weights = [w for _, w, _ in parts]
    merged = exact(factors, weights)
    assert merged.rank == sum(f.rank for f in factors)
    close(merged.delta(), weighted_sum(factors, weights))


@pytest.mark.parametrize("name", LINEAR)
def test_delta_methods_are_linear_in_the_weights(name: str) -> None:
    factors, function = [draw(1), draw(2)], METHODS[name].function
    full = {"rank": 6} if name == "svd" else {}
    left = function(factors, [0.4 * 2 + 1, -0.3 * 2 + 0.5], **full).delta()
    close(left, 2 * function(factors, [0.4, -0.3], **full).delta() + function(factors, [1.0, 0.5], **full).delta())


@pytest.mark.parametrize("name", LINEAR)
def test_delta_methods_do_not_see_the_gauge_of_the_factors(name: str) -> None:
    one, two = draw(1), draw(2)
    turn = torch.randn(3, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    turned = Factors(turn @ two.A, two.B @ torch.linalg.inv(turn), two.scaling)
    close(
        METHODS[name].function([one, two], [0.5, 0.8]).delta(),
        METHODS[name].function([one, turned], [0.5, 0.8]).delta(),
    )


@pytest.mark.parametrize("name", ["lorahub", "peft-linear"])
def test_element_wise_methods_do_see_the_gauge(name: str) -> None:
    one, two = draw(1), draw(2)
    turned = Factors(-two.A, -two.B, two.scaling)
    found = METHODS[name].function([one, turned], [0.5, 0.8]).delta()
    assert (found - METHODS[name].function([one, two], [0.5, 0.8]).delta()).abs().max() > 0.1


def test_svd_at_full_rank_is_exact() -> None:
    factors, weights = [draw(1), draw(2, rank=2, scaling=0.5)], [0.9, -0.4]
    close(svd(factors, weights, rank=5).delta(), exact(factors, weights).delta())


@pytest.mark.parametrize("rank", [1, 2, 3, 5])
def test_svd_error_is_the_tail_of_the_singular_values(rank: int) -> None:
    factors, weights = [draw(1), draw(2)], [0.9, -0.4]
    whole = weighted_sum(factors, weights)
    merged = svd(factors, weights, rank=rank)
    assert merged.rank == rank
    tail = torch.linalg.svdvals(whole)[rank:].square().sum().sqrt()
    close(torch.linalg.norm(whole - merged.delta()), tail)


def test_svd_keeps_the_largest_input_rank_by_default_and_splits_the_values_evenly() -> None:
    merged = svd([draw(1, rank=2), draw(2, rank=4)], [1.0, 1.0])
    assert merged.rank == 4
    close(merged.A.norm(dim=1), merged.B.norm(dim=0))


def test_svd_factors_do_not_depend_on_the_sign_that_the_library_chose() -> None:
    one, two = draw(1), draw(2)
    flipped = Factors(-two.A, -two.B, two.scaling)
    first, second = svd([one, two], [0.5, 0.8]), svd([one, flipped], [0.5, 0.8])
    close(first.A, second.A)
    close(first.B, second.B)
    for seed in range(5):
        columns = svd([draw(seed), draw(seed + 9)], [0.5, 0.8]).B.T
        assert all(column[column.abs().argmax()] > 0 for column in columns)


@settings(deadline=None, max_examples=30)
@given(st.lists(WEIGHTS, min_size=1, max_size=4))
def test_lorahub_is_the_sum_over_all_pairs_and_even_in_the_weights(weights: list[float]) -> None:
    factors = [draw(i, scaling=0.5 + i) for i in range(len(weights))]
    expected = torch.zeros(OUT, IN, dtype=torch.float64)
    for w_i, left in zip(weights, factors, strict=True):
        for w_j, right in zip(weights, factors, strict=True):
            expected += w_i * w_j * sqrt(left.scaling * right.scaling) * left.B @ right.A
    merged = lorahub(factors, weights)
    close(merged.delta(), expected)
    close(lorahub(factors, [-w for w in weights]).delta(), merged.delta())


def test_lorahub_takes_one_adapter_at_the_square_of_its_weight() -> None:
    close(lorahub([draw(1)], [0.5]).delta(), 0.25 * draw(1).delta())
    close(lorahub([draw(1)], [-1.0]).delta(), draw(1).delta())


def test_both_folds_of_lorahub_agree_where_all_scalings_are_equal() -> None:
    factors, weights = [draw(1), draw(2), draw(3)], [0.5, -0.7, 1.2]
    close(lorahub(factors, weights).delta(), lorahub(factors, weights, fold="lorahub-compat").delta())


def test_fold_compat_multiplies_the_plain_sums_by_the_shared_scaling() -> None:
    one, two = draw(1, scaling=3.0), draw(2, scaling=3.0)
    expected = 3.0 * (0.5 * one.B - 0.2 * two.B) @ (0.5 * one.A - 0.2 * two.A)
    close(lorahub([one, two], [0.5, -0.2], fold="lorahub-compat").delta(), expected)


@pytest.mark.parametrize("other", [None, draw(2, scaling=1.0), draw(2, rank=4)])
def test_fold_compat_refuses_unequal_adapters_by_number(other: Factors | None) -> None:
    with pytest.raises(IncompatibleAdapters, match="adapter 2"):
        lorahub([draw(1), other], [1.0, 1.0], fold="lorahub-compat")


def test_peft_linear_gives_equal_adapters_as_many_times_too_large_as_there_are() -> None:
    same = [draw(1)] * 4
    close(peft_linear(same, [0.25] * 4).delta(), 4 * draw(1).delta())


def test_padding_keeps_the_delta() -> None:
    padded = pad_rank(draw(1), 8)
    assert padded.rank == 8
    close(padded.delta(), draw(1).delta())


def test_unknown_methods_and_options_are_refused_with_the_known_ones() -> None:
    with pytest.raises(BadMethod, match=r"(?s)'magic'.*lorahub, exact, svd, peft-linear"):
        find_method("magic")
    with pytest.raises(BadMethod, match=r"(?s)no option 'rank'.*fold"):
        METHODS["lorahub"].resolve({"rank": 3})
    for bad in (0, -1, True, 2.5, "3"):
        with pytest.raises(BadMethod, match="whole number from 1"):
            METHODS["svd"].resolve({"rank": bad})
    with pytest.raises(BadMethod, match="balanced, lorahub-compat"):
        METHODS["lorahub"].resolve({"fold": "none"})


def test_every_row_is_listed_under_its_own_name() -> None:
    assert all(name == method.name and method.level in LEVELS for name, method in METHODS.items())
