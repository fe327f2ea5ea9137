"""Kill -9 while publishing, at every step and at random times: the home is consistent, and publishing works again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.actions import database
from hub.actions.find import find
from hub.actions.publish import publish
from hub.actions.show import show
from hub.address import parse_address as at
from hub.home import Home, open_home
from hub.settings import Settings

Write = Callable[..., Path]
Publishers = Callable[..., list[int]]
STEPS = ("put_file", "rename", "record", "create_repo", "create_revision", "create_branch", "record_facts",
         "give_version", "commit")  # fmt: skip
KILLED = -9


@contextmanager
def opened(folder: Path) -> Iterator[Home]:
    with open_home(Settings(home=folder, database_url="", blobs_url="")) as home:
        yield home


def problems(folder: Path) -> tuple[str, ...]:
    return database.check(Settings(home=folder, database_url="", blobs_url=""), deep=True).problems


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_all_or_nothing_is_there_and_publishing_again_gives_v1(
    publishers: Publishers, home_folder: Path, write_lora: Write, step: str, when: str
) -> None:
    folder = write_lora("a")
    assert publishers(home=home_folder, folder=folder, addresses=["team/a"], step=step, when=when) == [KILLED]
    assert problems(home_folder) == ()
    committed = step == "commit" and when == "after"
    with opened(home_folder) as home:
        assert [a.address for a in find(home)] == (["team/a"] if committed else [])
        done = publish(home, folder, at("team/a"))
        assert (done.version, done.created) == ("v1", not committed)
        assert [v.name for v in show(home, at("team/a")).versions] == ["v1"]
    assert problems(home_folder) == ()


@pytest.mark.parametrize("step", ["create_revision", "commit"])
def test_killed_while_a_second_version_is_published_the_first_one_is_untouched(
    publishers: Publishers, home_folder: Path, write_lora: Write, step: str
) -> None:
    with opened(home_folder) as home:
        first = publish(home, write_lora("a", seed=1), at("team/a"))
    folder = write_lora("b", seed=2)
    assert publishers(home=home_folder, folder=folder, addresses=["team/a"], step=step, when="before") == [KILLED]
    assert problems(home_folder) == ()
    with opened(home_folder) as home:
        assert show(home, at("team/a")).commit_id == first.commit_id
        assert publish(home, folder, at("team/a")).version == "v2"


def test_killed_at_random_times_from_the_first_opening_of_a_home_on(
    publishers: Publishers, write_lora: Write, home_folder: Path, tmp_path: Path
) -> None:
    """Some of the homes do not exist yet, so that making the tables is interrupted as well."""
    folder = write_lora("a")
    chance = random.Random(7)
    ended = []
    for i in range(25):
        place = tmp_path / f"home-{i}"
        new = i % 4 == 0
        if not new:
            shutil.copytree(home_folder, place)
        delay = chance.uniform(0, 0.6 if new else 0.2)
        ended += publishers(home=place, folder=folder, addresses=["team/a"], delay=delay)
        if not new:  # a home that was set up before is consistent at every moment
            assert problems(place) == (), delay
        with opened(place) as home:
            assert publish(home, folder, at("team/a")).version == "v1", delay
        assert problems(place) == (), delay
    assert set(ended) <= {0, KILLED} and KILLED in ended
