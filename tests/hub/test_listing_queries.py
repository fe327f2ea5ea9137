"""A page of a listing takes a fixed number of queries, however many repos are on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event

from hub.actions.find import find
from hub.actions.publish import publish
from hub.address import parse_address as at
from hub.app import create_app
from hub.home import Home
from hub.settings import Settings
from storage import repos


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that any database executes meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.fixture
def publish_another(home: Home, write_lora: Callable[..., Path], tiny_t5: Path) -> Callable[[int], None]:
    """Publish repo number n with adapters in two folders and a card, for everybody to see."""

    def make(number: int) -> None:
        folder = write_lora(f"r{number}", seed=number, card=f"---\nlicense: mit\ntags: [t{number}]\n---\n")
        publish(home, folder, at(f"team/r{number}"), base=str(tiny_t5))
        publish(home, folder, at(f"team/r{number}/sub"))
        with home.write() as session:
            repos.set_access(session, repos.find(session, "team", f"r{number}"), visibility="public", gated=None)

    return make


@pytest.mark.parametrize(
    "page", ["/api/models", "/api/models?full=true&filter=peft&sort=downloads", "/api/v1/adapters"]
)
def test_pages_of_repos_and_adapters(home: Home, publish_another: Callable[[int], None], page: str) -> None:
    numbers, sizes = [], []
    with TestClient(create_app(Settings(home=home.directory, database_url="", blobs_url=""))) as client:
        for number in range(5):
            publish_another(number)
            if number in (0, 4):
                with counted() as statements:
                    sizes.append(len(client.get(page).json()))
                numbers.append(len(statements))
    assert sizes[1] == 5 * sizes[0]
    assert numbers[0] == numbers[1] <= 12, statements


def test_the_command_that_lists_adapters(home: Home, publish_another: Callable[[int], None]) -> None:
    numbers = []
    for number in range(5):
        publish_another(number)
        with counted() as statements:
            listed = find(home)
        numbers.append(len(statements))
        assert [(one.address, one.version) for one in listed][-1] == (f"team/r{number}/sub", "v2")
    assert len(set(numbers)) == 1 and numbers[0] <= 10, statements
