"""Leftovers of interrupted work go, by `db gc` and when a server starts; what is in use stays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from hub.app import create_app
from hub.settings import Settings


@pytest.fixture
def left(home_folder: Path) -> Callable[[float], list[Path]]:
    """Make what killed uploads and checkouts leave, this many hours old."""

    def make(hours: float) -> list[Path]:
        made = []
        for name in ("uploads/xet/0123", "uploads/lfs/4567", "checkouts/.abc-x", "checkouts/complete"):
            folder = home_folder / f"{name}-{hours:g}h"
            folder.mkdir(parents=True)
            (folder / "part").write_bytes(b"x")
            made.append(folder)
        made.append(home_folder / "uploads" / f"spool-{hours:g}h")
        made[-1].write_bytes(b"x")
        for path in made:
            os.utime(path, (time.time() - hours * 3600,) * 2)
        return made

    return make


def remain(paths: list[Path]) -> list[str]:
    return [path.name for path in paths if path.exists()]


def test_gc_removes_old_leftovers_and_no_checkout_that_is_complete(
    left: Callable[[float], list[Path]], mixhub: Callable[..., Any]
) -> None:
    old, young = left(25), left(1)
    assert mixhub("db", "gc", "--json").json == {"removed_blobs": 4}
    assert remain(old) == ["complete-25h"] and remain(young) == [path.name for path in young]
    assert mixhub("db", "gc", "--older-than", "0", "--json").json == {"removed_blobs": 4}
    assert remain(young) == ["complete-1h"]


def test_a_server_removes_what_no_upload_token_can_reach_any_more_when_it_starts(
    left: Callable[[float], list[Path]], home_folder: Path
) -> None:
    old, young = left(7), left(5)
    with TestClient(create_app(Settings(home=home_folder, database_url="", blobs_url="", upload_seconds=3600))):
        assert remain(old) == ["complete-7h"] and remain(young) == [path.name for path in young]
    with TestClient(create_app(Settings(home=home_folder, database_url="", blobs_url="", upload_seconds=60))):
        assert remain(young) == [path.name for path in young]
