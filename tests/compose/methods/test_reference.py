"""What the README, --help and the API's schema say about the methods' options is one and the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest

from compose.errors import BadMethod
from compose.methods import METHODS, find_method
from compose.methods.reference import method_help, method_table, options_schema

Listing = dict[str, list[tuple[str, str]]]
"""Method -> its options with their defaults, as texts, in order."""


def in_the_table() -> Listing:
    rows = [line.split(" | ") for line in method_table().splitlines()[2:]]
    return {row[0].strip("| `"): re.findall(r"`(\w+)` \(([^)]*)\)", row[3]) for row in rows}


def in_the_help() -> Listing:
    found: Listing = {}
    for line in method_help().splitlines():
        name, _, rest = line.partition(": ")
        if line.startswith("    "):
            default = rest.rpartition("; default ")[2]
            found[list(found)[-1]].append((name.strip(), "none" if default == "None" else default))
        else:
            found[name] = []
    return found


def in_the_schema() -> Listing:
    return {
        str(one["title"]): [
            (name, "none" if option["default"] is None else str(option["default"]))
            for name, option in dict[str, Any](one["properties"]).items()  # type: ignore[call-overload]
        ]
        for one in options_schema()["anyOf"]
    }


@pytest.mark.parametrize("listing", [in_the_table, in_the_help, in_the_schema])
def test_every_listing_has_every_option_with_its_default(listing: Callable[[], Listing]) -> None:
    assert listing() == {
        name: [(p.name, "none" if p.default is None else str(p.default)) for p in row.params]
        for name, row in METHODS.items()
    }


@pytest.mark.parametrize("name", METHODS)
def test_the_schema_allows_what_the_method_takes_and_nothing_else(name: str) -> None:
    schema = next(one for one in options_schema()["anyOf"] if one["title"] == name)
    validator, method = jsonschema_rs.validator_for(schema), find_method(name)
    values: list[object] = [None, True, -1, 0, 1, 3, 0.25, 1.5, 2.0**40, "elect", "ties", "none", "balanced"]
    for param in method.params:
        for value in values:
            try:
                method.resolve({param.name: value})
                taken = True
            except BadMethod:
                taken = False
            assert validator.is_valid({param.name: value}) == taken, (param.name, value)
    assert not validator.is_valid({"colour": 1})
