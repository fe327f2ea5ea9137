"""Gauge: what element-wise mixes see, how it is measured, and alignment that changes no adapter by itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity

from compose.adapter import Factors
from compose.gauge import gauge_affinity, procrustes
from compose.methods.exact import exact
from compose.methods.lorahub import lorahub
from compose.truncate import canonical, factor_dense, squared_norm, truncate


def draw(seed: int, *, rank: int = 3, scaling: float = 1.0) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, 9, generator=generator, dtype=torch.float64)
    return Factors(a, torch.randn(7, rank, generator=generator, dtype=torch.float64), scaling)


def turned(factors: Factors, seed: int) -> Factors:
    """The same change in another orthogonal gauge."""
    random = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    q = torch.linalg.qr(random).Q
    return replace(factors, A=q @ factors.A, B=factors.B @ q.T)


def test_affinity_is_one_for_the_same_a_and_near_zero_for_strangers() -> None:
    one = draw(1)
    same = replace(draw(2), A=one.A)
    assert gauge_affinity([{"q": one}, {"q": same}]) == pytest.approx(1.0)
    wide = [
        {"q": Factors(torch.randn(8, 4000, generator=torch.Generator().manual_seed(i)), torch.ones(3, 8))}
        for i in (1, 2)
    ]
    assert abs(gauge_affinity(wide) or 1.0) < 0.1
    assert gauge_affinity([{"q": one}, {"v": same}]) is None


def test_affinity_is_the_mean_cosine_over_all_pairs() -> None:
    adapters = [{"q": draw(seed)} for seed in range(4)]
    pairs = [cosine_similarity(x["q"].A, y["q"].A, dim=1) for x, y in combinations(adapters, 2)]
    assert gauge_affinity(adapters) == pytest.approx(float(torch.cat(pairs).mean()), rel=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 4), st.floats(-3, 3).filter(lambda s: abs(s) > 0.1)), min_size=1, max_size=4))
def test_alignment_changes_no_delta(parts: list[tuple[int, float]]) -> None:
    factors = [draw(i, rank=rank, scaling=s) for i, (rank, s) in enumerate(parts)]
    for before, after in zip(factors, procrustes([*factors, None]), strict=False):
        assert after is not None
        torch.testing.assert_close(after.delta(), before.delta(), rtol=1e-9, atol=1e-9)


def test_alignment_finds_the_same_adapter_in_other_gauges_again() -> None:
    one = draw(1)
    copies = [one, turned(one, 3), turned(one, 4)]
    aligned = lorahub(copies, [1 / 3] * 3, align="procrustes").delta()
    torch.testing.assert_close(aligned, one.delta(), rtol=1e-9, atol=1e-9)
    raw = lorahub(copies, [1 / 3] * 3).delta()
    assert torch.linalg.norm(raw - one.delta()) > 0.3 * torch.linalg.norm(one.delta())


def test_the_canonical_form_does_not_see_the_gauge() -> None:
    one = draw(1, scaling=-0.7)
    first, second = canonical(one), canonical(turned(one, 5))
    torch.testing.assert_close(first.A, second.A, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(first.B, second.B, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(first.delta(), one.delta(), rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_truncation_loses_just_the_tail_of_the_singular_values(seed: int, rank: int) -> None:
    """Eckart-Young: nothing of that rank is nearer."""
    whole = exact([draw(seed), draw(seed + 1)], [0.7, -1.2])
    cut = truncate(whole, rank)
    tail = torch.linalg.svdvals(whole.delta())[rank:].square().sum()
    torch.testing.assert_close((whole.delta() - cut.delta()).square().sum(), tail, rtol=1e-8, atol=1e-10)
    assert squared_norm(cut) + float(tail) == pytest.approx(squared_norm(whole), rel=1e-9)


def test_a_large_dense_matrix_is_factored_as_well_as_by_its_whole_decomposition() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(900, 6) @ torch.randn(6, 1000) + 0.05 * torch.randn(900, 1000)
    found = factor_dense(matrix, 8).delta()
    tail = torch.linalg.svdvals(matrix)[8:].square().sum().sqrt()
    assert torch.linalg.norm(matrix - found) < 1.01 * tail
    assert torch.equal(found, factor_dense(matrix, 8).delta())
