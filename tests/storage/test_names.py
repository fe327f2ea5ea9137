from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import names
from storage.errors import InvalidName


@pytest.mark.parametrize("name", ["a", "gpt2", "My_Adapter-1.5", "_x", "a" * 96, "1"])
def test_names_that_hugging_face_clients_send_are_allowed(name: str) -> None:
    assert names.check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a" * 97, "a/b", "a b", "ä", "a--b", "a..b", "-a", "a-", ".a", "a.", "x.git", "x.GIT", "..", "a\n", "a@v1"],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidName, match="cannot be the name of a repo"):
        names.check_name(name)


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", ".git/config", "a/.GIT/x", "a\\b", "a\0b", "a\nb",
     "C:/x", "c:x", "\ud800", "a" * 256, "/".join(["abc"] * 300), "é" * 128],
)  # fmt: skip
def test_paths_that_could_leave_the_folder_or_break_a_file_system_are_refused(path: str) -> None:
    with pytest.raises(InvalidName):
        names.check_path(path)


@pytest.mark.parametrize("path", ["a", "adapter_model.safetensors", "tasks/a b/é.json", ".gitattributes", "a/.hidden"])
def test_ordinary_paths_are_allowed(path: str) -> None:
    assert names.check_path(path) == path


@given(st.text(st.sampled_from("ab./\\:\0\n~ é"), max_size=12) | st.text(max_size=40))
def test_an_allowed_path_joined_to_a_folder_stays_inside_it_and_keeps_its_spelling(path: str) -> None:
    try:
        names.check_path(path)
    except InvalidName:
        return
    joined = PurePosixPath("/home/repo") / path
    assert joined.is_relative_to("/home/repo")
    assert joined != PurePosixPath("/home/repo")
    assert ".." not in joined.parts
    assert str(joined) == f"/home/repo/{path}"
    path.encode()


@given(st.lists(st.sampled_from(["a", "a/b", "a/b/c", "b", "b/c"]), max_size=4))
def test_a_tree_is_allowed_when_it_could_be_written_to_disk(paths: list[str]) -> None:
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    writable = len(set(paths)) == len(paths) and not folders & set(paths)
    if writable:
        names.check_paths(paths)
    else:
        with pytest.raises(InvalidName):
            names.check_paths(paths)


@pytest.mark.parametrize("name", ["main", "feat/x", "v1", "v1.0", "release-2", "refs/pr/1", "é"])
def test_git_like_ref_names_are_allowed(name: str) -> None:
    assert names.check_ref(name) == name


@pytest.mark.parametrize(
    "name", ["", "a b", "a..b", "/a", "a/", "a//b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "@", "a@{1}", "-a",
             ".a", "a.", "a.lock", "a/.b", "0123456", "a" * 40, "x" * 201],
)  # fmt: skip
def test_ref_names_that_git_refuses_or_that_look_like_commits_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        names.check_ref(name)


@pytest.mark.parametrize("name", ["main", "v1", "v01", "V2", "deadbee", "0" * 40, "Prod", "a/b", "", "-x", "a" * 65])
def test_an_alias_cannot_be_mistaken_for_anything_else(name: str) -> None:
    with pytest.raises(InvalidName):
        names.check_alias(name)


@pytest.mark.parametrize("name", ["prod", "staging", "v1-candidate", "facade", "eu.west"])
def test_ordinary_aliases_are_allowed(name: str) -> None:
    assert names.check_alias(name) == name


@pytest.mark.parametrize(("tag", "number"), [("v1", 1), ("v20", 20), ("v0", None), ("v01", None), ("V1", None),
                                             ("v1.0", None), ("v1\n", None), ("v", None), ("v٣", None)])  # fmt: skip
def test_only_v_and_a_plain_number_is_a_version(tag: str, number: int | None) -> None:
    assert names.version_number(tag) == number
