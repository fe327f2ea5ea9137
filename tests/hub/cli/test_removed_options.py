"""Options of earlier versions are usage errors that name what to use instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (("search", "team/a", "--fold", "lorahub-compat"), "--param fold="),
        (("search", "team/a", "--fold=balanced"), "--param fold="),
        (("compose", "team/a=1", "--fold", "balanced", "--as", "team/b"), "--param fold="),
        (("search", "team/a", "--non-negative"), "--bounds 0,1.5"),
        (("search", "team/a", "--workers", "4"), "search(..., workers=N)"),
        (("search", "team/a", "--seeds=3"), "--seed"),
        (("search", "team/a", "--l1", "0.1"), "--optimizer fit"),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_removed_option_is_a_usage_error_that_names_what_to_use(
    mixhub: Callable[..., Any], words: tuple[str, ...], instead: str, as_json: bool
) -> None:
    ran = mixhub(*words, *(["--json"] if as_json else []))
    option = next(word for word in words if word.startswith("--")).partition("=")[0]
    assert ran.code == 2 and ran.out == ""
    assert f"there is no option {option} any more" in ran.err and instead in " ".join(ran.err.split())
