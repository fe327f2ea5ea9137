"""A home whose database log is deleted by others while a command or a notebook has it open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.client import Hub
from storage import accounts
from storage.errors import DatabaseLost


def test_a_command_fails_in_one_sentence_and_says_nothing_of_success(
    mixhub: Callable[..., Any], home_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_admin = accounts.set_admin

    def meanwhile(*args: Any, **options: Any) -> Any:
        (home_folder / "mixhub.sqlite-wal").unlink()
        return set_admin(*args, **options)

    monkeypatch.setattr(accounts, "set_admin", meanwhile)
    ran = mixhub("user", "create", "ann")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ") and "mixhub.sqlite-wal was deleted" in ran.err and "start again" in ran.err


def test_a_notebook_is_told_and_goes_on_without_this_home(
    home_folder: Path, tmp_path: Path, write_lora: Callable[..., Path]
) -> None:
    folder = write_lora("a")
    with Hub(home=home_folder) as hub, Hub(home=tmp_path / "other") as other:
        hub.publish(folder, "team/before")
        (home_folder / "mixhub.sqlite-wal").unlink()
        for _ in range(2):
            with pytest.raises(DatabaseLost, match="was deleted"):
                hub.publish(folder, "team/after")
            with pytest.raises(DatabaseLost):
                hub.find()
        other.publish(folder, "team/elsewhere")
        assert [one.address for one in other.find()] == ["team/elsewhere"]
    with pytest.raises(DatabaseLost), Hub(home=home_folder):
        pass
