"""A .gitignore is read as git itself reads it, and one that costs too much is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hub.actions.uploads import ignore_rules
from hub.errors import UsageError

PATHS = (
    "a.txt", "b.txt", "c.txt", "docs/a.txt", "docs/a/b.txt", "foo", "x/foo", "foo/bar", "x/foo/bar", "a/b", "a/x/b",
    "a/x/y/b", "b/a", "build/keep/me", "build/out", "src/build/out", "#x", "!x", "x", "x ", "xaxbx", "[a", "é/ü.bin",
)  # fmt: skip

PROBES = (
    "docs/*.txt", "**/foo", "a/**/b", "a/**", "**", "*", "**/a/b", "/foo", "foo/", "foo", "foo/bar", "/a/*", "a/*",
    "*.txt", "?.txt", "[ab].txt", "[!a].txt", "[z-a].txt", "x*b*", "x**b*", "*/b", "é/", "  x",
    "*.txt\n!b.txt", "!b.txt\n*.txt", "*\n!*/\n!*.txt", "build\n!src/build", "build/*\n!build/keep",
    "/*\n!/foo\n/foo/*", "# foo", "\\#x", "\\!x", "x ", "x\\ ", "x \r\nfoo\r", "[a", "a\\", "!", "/", "//",
    "foo//bar", "",
)  # fmt: skip


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repo")
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


@pytest.mark.parametrize("rules", PROBES)
def test_what_git_ignores_is_ignored(rules: str, repo: Path) -> None:
    (repo / ".gitignore").write_bytes(f"{rules}\n".encode())
    said = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=repo, input="\0".join(PATHS).encode(), capture_output=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
    )  # fmt: skip
    assert said.returncode in (0, 1), said.stderr  # 1: none of them
    found = ignore_rules(rules)
    assert {path for path in PATHS if found.match_file(path)} == set(said.stdout.decode().split("\0")) - {""}


def test_a_pattern_with_many_ways_to_match_is_matched_in_linear_time() -> None:
    assert not ignore_rules("*a" * 300 + "b").match_file("a" * 2000)


def test_more_patterns_than_can_be_matched_are_refused_with_a_way_out() -> None:
    with pytest.raises(UsageError, match="more or longer patterns") as refused:
        ignore_rules("\n".join(f"folder{i}/part*/file{i}.txt" for i in range(10_000)))
    assert "ignore_patterns" in refused.value.remedy
