"""Addresses: what is read, what is refused, and that reading and printing are inverse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.address import Address, parse_address
from hub.errors import UsageError

names = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9_]{0,8}[a-zA-Z0-9])?", fullmatch=True)


@given(names, names, st.lists(names, max_size=3), st.one_of(st.just(""), names))
def test_printing_and_reading_an_address_are_inverse(namespace: str, repo: str, folder: list[str], rev: str) -> None:
    address = Address(namespace, repo, "/".join(folder), rev)
    assert parse_address(str(address)) == address


def test_a_folder_and_a_branch_with_a_slash_are_kept_apart() -> None:
    address = parse_address("team/repo/sub/deep@feature/x")
    assert (address.repo_id, address.folder, address.revision) == ("team/repo", "sub/deep", "feature/x")


@pytest.mark.parametrize(
    "text",
    ["", "a", "a/", "/a", "a//b", "../a", "a/..", "a/b@", "a/b c", "a/.hidden", "a/-x", "a/x.git", "a/x--y", "a/b\n"],
)
def test_what_is_not_an_address_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert caught.value.remedy
