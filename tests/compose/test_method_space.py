"""A row of a search over methods says how it is mixed, and comes back as what it was."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compose.errors import BadMethod
from compose.method_space import MethodSpace, Setting, parse_given
from compose.methods import METHODS

SPACE = MethodSpace.of(["ties", "exact", "svd"], {"density": (0.2, 0.8), "svd.rank": [2, 6], "ties.rank": 4})


@settings(max_examples=60, deadline=None)
@given(number=st.integers(0, 2), density=st.floats(0.2, 0.8), rank=st.integers(2, 6))
def test_a_setting_comes_back_from_its_numbers_bit_for_bit(number: int, density: float, rank: int) -> None:
    params = ({"rank": 4, "density": density}, {}, {"rank": rank})[number]
    setting = Setting(SPACE.names[number], params)
    row = SPACE.widened(np.ones((2, 3)), setting)
    assert row.shape == (2, 3 + SPACE.columns)
    found = SPACE.decode(row[1, 3:].tolist())
    assert (found.method, dict(found.params)) == (setting.method, params)
    assert type(found.params.get("rank", 0)) is int


def test_the_baselines_are_mixed_by_the_first_method_that_leaves_a_single_adapter_as_it_is() -> None:
    assert SPACE.plain.method == "exact"
    assert MethodSpace.of(["ties", "lorahub", "exact"]).plain.method == "lorahub"
    only = MethodSpace.of(["ties", "dare-ties"], {"density": (0.2, 0.8)})
    assert only.plain == Setting("ties", {"density": 0.5})
    assert MethodSpace.of(["ties"], {"density": (0.6, 0.9)}).plain.params == {"density": 0.75}


def test_an_option_belongs_to_all_methods_that_have_it_and_one_with_the_method_s_name_to_that_alone() -> None:
    space = MethodSpace.of(["ties", "dare-linear", "exact"], {"density": 0.3, "ties.density": (0.4, 0.9)})
    assert space.as_dict() == {"ties": {"density": [0.4, 0.9]}, "dare-linear": {"density": 0.3}, "exact": {}}


@pytest.mark.parametrize(
    ("methods", "params", "said"),
    [
        (["exact", "nonsense"], {}, "no merge method 'nonsense'"),
        (["exact", "exact"], {}, "name each once"),
        (["exact", "lorahub"], {"density": 0.5}, "none of the methods exact, lorahub has no option 'density'"),
        (["exact", "ties"], {"svd.rank": 4}, "a method that is not searched"),
        (["exact", "ties"], {"exact.density": 0.5}, "no option 'density'"),
        (["exact", "ties"], {"density": (0.5, 1.5)}, "expected a number from 0 to 1"),
        (["exact", "ties"], {"density": (0.5, 0.5)}, "a lower and an upper number"),
        (["exact", "ties"], {"density": (0.8, 0.2)}, "a lower and an upper number"),
        (["exact", "ties"], {"density": (math.nan, 0.5)}, "expected a number from 0 to 1"),
        (["exact", "ties"], {"density": (0.2, math.inf)}, "expected a number from 0 to 1"),
        (["exact", "ties"], {"density": (0.1, 0.5, 0.9)}, "a lower and an upper number"),
        (["exact", "ties"], {"normalize": (False, True)}, "only numbers can have a range"),
        (["exact", "ties"], {"rank": (1.5, 4)}, "expected a whole number"),
        (["exact", "lorahub"], {"fold": "folded"}, "expected one of"),
    ],
)
def test_what_the_table_of_methods_does_not_have_is_refused(methods: list[str], params: dict, said: str) -> None:
    with pytest.raises(BadMethod, match=said.replace("(", r"\(")):
        MethodSpace.of(methods, params)


def test_texts_are_typed_as_the_table_says() -> None:
    texts = {"density": "0.2:0.8", "svd.rank": "2:8", "normalize": "false"}
    assert parse_given(["ties", "svd"], texts) == {"density": (0.2, 0.8), "svd.rank": (2, 8), "normalize": False}
    for key, text in (("density", "a:b"), ("density", "0:1:2"), ("normalize", "true:false"), ("speed", "1:2")):
        with pytest.raises(BadMethod):
            parse_given(["ties", "svd"], {key: text})


def test_numbers_that_mean_no_setting_of_the_search_are_refused() -> None:
    with pytest.raises(BadMethod, match="none of those of this search"):
        SPACE.encode("lorahub", {})
    with pytest.raises(BadMethod, match="density"):
        SPACE.encode("ties", {"rank": 4})


def test_every_method_of_the_table_can_be_searched_over() -> None:
    space = MethodSpace.of(list(METHODS))
    assert [space.decode([i]).method for i in range(len(METHODS))] == list(METHODS)
