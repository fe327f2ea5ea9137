"""Which licences cannot all hold for a mix, in words that name the parts."""

from __future__ import annotations

import pytest

from hub.licences import conflicts


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("mit", "apache-2.0"), ("mit", "gpl-3.0"), ("apache-2.0", "gpl-3.0"), ("gpl-3.0", "agpl-3.0"), ("mit", None),
        ("cc-by-sa-4.0", "gpl-3.0"), ("cc-by-nc-4.0", "mit"), ("cc-by-nc-4.0", "cc-by-nc-sa-4.0"), ("llama3.1", "mit"),
        ("gpl-3.0", "gpl-3.0"), ("GPL-3.0", "gpl-3.0"), ("llama2", "cc-by-nc-4.0"), ("other", "gpl-3.0"),
    ],
)  # fmt: skip
def test_licences_that_go_together(first: str, second: str | None) -> None:
    assert conflicts({"a": first, "b": second}) == () == conflicts({"a": second, "b": first})


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ("cc-by-nd-4.0", "mit", "no changed version"), ("cc-by-nc-nd-4.0", None, "no changed version"),
        ("gpl-2.0", "gpl-3.0", "under themselves alone"), ("cc-by-sa-4.0", "cc-by-nc-sa-4.0", "under themselves alone"),
        ("cc-by-sa-4.0", "agpl-3.0", "under themselves alone"), ("gpl-2.0", "apache-2.0", "cannot be combined"),
        ("gpl-3.0", "cc-by-nc-4.0", "to be added"), ("gpl-3.0", "llama3.1", "to be added"),
        ("cc-by-nc-sa-4.0", "gemma", "to be added"),
    ],
)  # fmt: skip
def test_licences_that_do_not(first: str, second: str | None, why: str) -> None:
    (found,) = conflicts({"team/a": first, "team/b": second})
    assert why in found and f"{first} (team/a)" in found
    assert found.count("team/") == 1 + (second is not None and why != "no changed version")
    assert len(conflicts({"team/b": second, "team/a": first})) == 1


def test_every_pair_is_named_and_parts_of_one_licence_together() -> None:
    found = conflicts({"a": "gpl-3.0", "b": "gpl-2.0", "c": "cc-by-nd-4.0", "d": "gpl-3.0", "e": None})
    assert len(found) == 2
    assert "cc-by-nd-4.0 (c)" in found[0] and "gpl-2.0 (b) and gpl-3.0 (a, d)" in found[1]
