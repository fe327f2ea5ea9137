"""Keys of rank_pattern and alpha_pattern from hostile configs: whatever they are, matching ends."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose import module_patterns
from compose.errors import MalformedAdapter
from compose.module_patterns import check_keys, check_work, first_match

HOSTILE = ("(a+)+$", "(a|a)*b", "(?:x*)*", ".*.*.*.*.*x", "(a|a)(a|a)(a|a)(a|a)x", "(.*a){20}b", "[ab]*a[ab]{200}")


def test_no_pattern_makes_describing_an_adapter_run_for_ever(write_lora: Callable[..., Path]) -> None:
    """What publishing and commits do, in a process of its own: a matcher that does not end cannot be interrupted."""
    long_names = ["a" * 400, ".a" * 200, "a." * 199 + "ab", "ab" * 200]
    for i, key in enumerate(HOSTILE):
        folder = write_lora(f"hostile/{i}", sites=long_names, alpha_pattern={key: 4})
    code = (
        "import sys, pathlib, compose.description\n"
        "for folder in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    print(len(compose.description.describe(folder).modules))"
    )
    command = [sys.executable, "-c", code, str(folder.parent)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == ["4"] * len(HOSTILE), ran.stderr


@pytest.mark.parametrize(
    "key", ["(?x:(a+) +)b", r"(a)\1", "(?=a)a", "(?<!b)a", ".{0,1000}a.{0,1000}b", "a" * 2000, "((a{900}){900})"]
)
def test_what_cannot_be_matched_in_linear_time_is_refused(key: str) -> None:
    with pytest.raises(MalformedAdapter, match="too costly") as caught:
        check_keys([key], "ns/a: rank_pattern")
    assert caught.value.message.startswith("ns/a: rank_pattern") and "full module paths" in caught.value.remedy


@pytest.mark.parametrize("key", ["(", "*", "[", "(?P<x>a", "\\"])
def test_what_is_no_regular_expression_is_refused(key: str) -> None:
    with pytest.raises(MalformedAdapter, match="no regular expression"):
        check_keys([key], "a")


def test_many_keys_times_many_modules_are_refused_before_any_is_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"model.layers.{i}.q_proj" for i in range(2000)]
    check_work([path + "$" for path in paths], paths, "a")  # as PEFT's EVA writes: one key for every module
    with pytest.raises(MalformedAdapter, match="too costly to match with 2000 modules"):
        check_work([f"k{i}" for i in range(4000)], paths, "a")
    with pytest.raises(MalformedAdapter, match="too costly"):
        check_work([f"k{i}.*[ab]{{50}}" for i in range(500)], paths, "a")
    monkeypatch.setattr(module_patterns, "MAX_KEYS", 3)
    with pytest.raises(MalformedAdapter, match="has 4 keys"):
        check_keys(["a", "b", "c", "d"], "a")


PIECES = (
    "a",
    "b",
    ".",
    r"\.",
    "^",
    "$",
    "-",
    "_",
    "[0-9]+",
    "(a|b)",
    ".*",
    "[^.]*",
    "a{1,2}",
    "(?:b.)?",
    r"\d",
    r"\w+",
)


@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join),
    st.text("ab.-_01", min_size=1, max_size=12),
)
def test_a_key_holds_for_the_paths_for_which_peft_says_so(key: str, path: str) -> None:
    try:
        peft_says = re.match(rf"(.*\.)?({key})$", path) is not None
    except re.error:
        return
    check_keys([key], "a")
    assert (first_match([key], path) == key) is peft_says
