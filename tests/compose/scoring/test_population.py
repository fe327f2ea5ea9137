"""How examples are put into forwards: every one once, within the budget, padded only where it pays."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.scoring.chunks import forward_cost, group_examples

LENGTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), min_size=1, max_size=12)


@given(lengths=LENGTHS, candidates=st.integers(1, 20), budget=st.integers(1, 500), pad=st.booleans())
def test_every_example_is_in_one_group_within_the_budget(
    lengths: list[tuple[int, ...]], candidates: int, budget: int, pad: bool
) -> None:
    groups = group_examples(lengths, candidates=candidates, token_budget=budget, forward_cost=30, pad=pad)
    assert sorted(example for group in groups for example in group) == list(range(len(lengths)))
    for group in groups:
        widest = [max(lengths[example][column] for example in group) for column in (0, 1)]
        assert len(group) == 1 or candidates * len(group) * sum(widest) <= budget
        assert pad or len({lengths[example] for example in group}) == 1


def padded_cost(lengths: list[tuple[int, ...]], cuts: tuple[bool, ...], candidates: int) -> int:
    groups: list[list[int]] = [[]]
    for (length,), cut in zip(sorted(lengths), (False, *cuts), strict=True):
        if cut:
            groups.append([])
        groups[-1].append(length)
    return sum(candidates * len(group) * max(group) + 30 for group in groups)


@given(lengths=st.lists(st.tuples(st.integers(1, 40)), min_size=1, max_size=7), candidates=st.integers(1, 9))
def test_no_other_cut_of_the_sorted_examples_is_cheaper(lengths: list[tuple[int, ...]], candidates: int) -> None:
    groups = group_examples(lengths, candidates=candidates, token_budget=10**9, forward_cost=30)
    cost = sum(candidates * len(group) * max(lengths[e][0] for e in group) + 30 for group in groups)
    cuts = product((False, True), repeat=len(lengths) - 1)
    assert cost == min(padded_cost(lengths, cut, candidates) for cut in cuts)


def test_many_candidates_get_exact_lengths_and_one_gets_few_forwards() -> None:
    lengths = [(20,), (24,), (22,), (24,)]
    many = group_examples(lengths, candidates=50, token_budget=10**6, forward_cost=30)
    assert many == [[0], [2], [1, 3]]
    assert len(group_examples(lengths, candidates=1, token_budget=10**6, forward_cost=30)) == 1


@pytest.mark.parametrize("parameters", [0, 10**6, 10**9])
def test_a_forward_of_a_small_model_costs_more_tokens(parameters: int) -> None:
    assert forward_cost(parameters) >= forward_cost(10 * parameters + 1) >= 24


def test_states_of_a_shared_prefix_count_for_the_memory_of_a_group() -> None:
    lengths = [(20,)] * 40
    for kept, largest in ((0, 40), (900, 7)):
        groups = group_examples(lengths, candidates=1, token_budget=1000, forward_cost=30, kept=kept)
        assert sorted(one for group in groups for one in group) == list(range(40)) and max(map(len, groups)) == largest
