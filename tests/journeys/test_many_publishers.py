"""Several processes publish to one home at once, the home itself being new."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from hub.actions import database
from hub.actions.find import find
from hub.actions.publish import publish
from hub.actions.show import show
from hub.address import parse_address as at
from hub.home import open_home
from hub.settings import Settings
from storage import repos, revisions, versions

Write = Callable[..., Path]


def check_linear(settings: Settings, address: str, count: int) -> None:
    """`count` versions, each a revision of its own, each the child of the one before."""
    with open_home(settings) as home, home.read() as session:
        repo = repos.find(session, *address.split("/"))
        given = versions.every(session, repo)
        assert [v.number for v in given] == list(range(1, count + 1))
        log = [r.commit_id for r in reversed(revisions.log(session, revisions.resolve(session, repo)))]
    assert [v.commit_id for v in given] == log
    assert database.check(settings, deep=True).problems == ()


def test_two_commands_at_once_on_a_home_that_does_not_exist_yet(
    write_lora: Write, home_folder: Path, start_mixhub: Callable[..., subprocess.Popen[str]]
) -> None:
    for path in sorted(home_folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folders = [write_lora(f"f{seed}", seed=seed) for seed in range(2)]
    running = [start_mixhub("publish", folder, "team/a", "--json") for folder in folders]
    ended = [(process.communicate(timeout=60), process.returncode) for process in running]
    assert [code for _, code in ended] == [0, 0], ended
    check_linear(Settings(home=home_folder, database_url="", blobs_url=""), "team/a", 2)


def test_eight_processes_at_once_on_a_home_that_does_not_exist_yet(
    publishers: Callable[..., list[int]], write_lora: Write, tmp_path: Path
) -> None:
    folder = tmp_path / "new-home"
    settings = Settings(home=folder, database_url="", blobs_url="")
    same = write_lora("same")
    # one content, eight repos: the same blobs and accounts are made by all at once
    assert publishers(home=folder, folder=same, addresses=[f"team/r{i}" for i in range(8)]) == [0] * 8
    with open_home(settings) as home:
        assert len(find(home)) == 8
    # one content, one repo: one of them makes the revision
    assert publishers(home=folder, folder=same, addresses=["team/one"] * 8) == [0] * 8
    check_linear(settings, "team/one", 1)


def test_eight_contents_at_once_become_eight_versions_in_a_row(
    publishers: Callable[..., list[int]], write_lora: Write, home_folder: Path
) -> None:
    for seed in range(8):
        write_lora(f"many/f{seed}", seed=seed)
    folder = write_lora("many/f8", seed=8).parent
    addresses = [f"team/a/folder{i}" for i in range(8)]
    assert publishers(home=home_folder, folder=folder / "f1", addresses=addresses) == [0] * 8
    settings = Settings(home=home_folder, database_url="", blobs_url="")
    check_linear(settings, "team/a", 8)
    with open_home(settings) as home:
        assert [a.address for a in find(home)] == addresses  # nobody's folder was lost
        assert publish(home, folder / "f2", at("team/a/folder0")).version == "v9"
        assert len(show(home, at("team/a")).versions) == 9
