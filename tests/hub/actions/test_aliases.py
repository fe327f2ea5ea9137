"""Aliases: movable names with a history that only grows, and what they pin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hub.actions.aliases import history, promote, rollback
from hub.actions.compose import Part, compose
from hub.actions.delete import delete
from hub.actions.export import export
from hub.actions.publish import publish
from hub.actions.pull import pull
from hub.actions.show import show
from hub.address import parse_address as at
from hub.errors import UsageError
from hub.home import Home
from storage.errors import AlreadyExists, Conflict, InvalidName, NotFound, PinnedRevision

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def versions(home: Home, write_lora: Write) -> list[str]:
    """team/a with v1, v2 and v3; their commit ids."""
    return [publish(home, write_lora(f"s{seed}", seed=seed), at("team/a")).commit_id for seed in range(3)]


def test_promote_and_roll_back_move_the_alias_and_history_keeps_all(home: Home, versions: list[str]) -> None:
    for version in ("v1", "v2", "v3"):
        promote(home, at(f"team/a@{version}"), "prod")
    promote(home, at("team/a@v1"), "staging")
    assert show(home, at("team/a@prod")).commit_id == versions[2]
    assert rollback(home, at("team/a"), "prod").label == "v2"
    assert rollback(home, at("team/a"), "prod").label == "v1"
    assert show(home, at("team/a@prod")).commit_id == versions[0]
    with pytest.raises(Conflict, match="no earlier"):
        rollback(home, at("team/a"), "prod")
    moves = history(home, at("team/a"), "prod")
    assert [(m.seq, m.action, m.label) for m in moves] == [
        (1, "promote", "v1"), (2, "promote", "v2"), (3, "promote", "v3"), (4, "rollback", "v2"), (5, "rollback", "v1")
    ]  # fmt: skip
    assert {m.actor for m in moves} == {"local"}
    assert history(home, at("team/a@prod")) == moves
    assert {m.alias for m in history(home, at("team/a"))} == {"prod", "staging"}
    assert {v.name: v.aliases for v in show(home, at("team/a")).versions} == {"v1": "prod, staging", "v2": "", "v3": ""}


def test_without_a_revision_the_head_of_main_is_promoted_and_stays_when_main_moves(
    home: Home, versions: list[str], write_lora: Write
) -> None:
    assert promote(home, at("team/a"), "prod").commit_id == versions[2]
    publish(home, write_lora("s9", seed=9), at("team/a"))
    assert show(home, at("team/a@prod")).commit_id == versions[2]


def test_an_alias_is_an_address_for_every_command(home: Home, versions: list[str], tmp_path: Path) -> None:
    promote(home, at("team/a@v2"), "prod")
    assert pull(home, at("team/a@prod"), tmp_path / "p").commit_id == versions[1]
    assert export(home, at("team/a@prod"), tmp_path / "e").commit_id == versions[1]
    done = compose(home, [Part(at("team/a@prod"), 1.0)], at("team/mix"), allow_unbound=True)
    assert [p.commit_id for p in show(home, done.published.address).parents] == [versions[1]]
    assert promote(home, at("team/a@prod"), "staging").commit_id == versions[1]


def test_a_version_that_an_alias_names_cannot_be_deleted(home: Home) -> None:
    promote(home, at("team/a@v1"), "prod")
    with pytest.raises(PinnedRevision, match="prod"):
        delete(home, at("team/a@v1"))
    promote(home, at("team/a@v2"), "prod")
    delete(home, at("team/a@v1"))
    with pytest.raises(NotFound):
        show(home, at("team/a@v1"))


@pytest.mark.parametrize("name", ["main", "v1", "v99", "V2", "abcdef0", "Prod", "a b", "", "-x", "x" * 65, "a/b"])
def test_names_that_could_be_mistaken_may_not_be_aliases(home: Home, name: str) -> None:
    with pytest.raises((InvalidName, AlreadyExists)):
        promote(home, at("team/a@v1"), name)
    assert history(home, at("team/a")) == []


def test_an_alias_is_of_the_whole_repo(home: Home, write_lora: Write) -> None:
    publish(home, write_lora("f"), at("team/many/folder"))
    for act in (lambda a: promote(home, a, "prod"), lambda a: rollback(home, a, "prod"), lambda a: history(home, a)):
        with pytest.raises(UsageError, match="whole repo"):
            act(at("team/many/folder"))
    promote(home, at("team/many@v1"), "prod")
    assert show(home, at("team/many/folder@prod")).commit_id == show(home, at("team/many@v1")).commit_id


def test_what_does_not_exist_is_named(home: Home) -> None:
    for act in (
        lambda: promote(home, at("team/none@v1"), "prod"),
        lambda: promote(home, at("team/a@v9"), "prod"),
        lambda: rollback(home, at("team/a"), "prod"),
        lambda: history(home, at("team/a"), "prod"),
    ):
        with pytest.raises(NotFound) as caught:
            act()
        assert caught.value.remedy
