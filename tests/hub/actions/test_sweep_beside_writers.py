"""`db gc --older-than 0` while somebody commits: what is acknowledged keeps its bytes, or the commit is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hub.access import Caller
from hub.actions import database, uploads
from hub.actions import repos as repo_actions
from hub.actions.changes import Add
from hub.actions.commit import Words, commit
from hub.errors import HubError
from hub.home import Home
from hub.settings import Settings
from storage import accounts
from storage.blobs import BlobInfo, LocalBlobs
from storage.errors import StorageError


def test_bytes_that_are_recorded_while_a_sweep_runs_are_kept_or_refused(
    home: Home, home_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with home.write() as session:
        account = accounts.set_admin(session, accounts.ensure(session, "admin"), is_admin=True)
    caller = Caller(account, "admin", "", {account.id: "admin"}, everything=True)
    repo = repo_actions.create(home, caller, "admin", "a")
    blob = home.blobs.put_stream([b"bytes first"])

    def rows_last() -> None:
        with suppress(HubError, StorageError):
            uploads.record(home, account.id, [blob])
            commit(home, caller, repo, "main", [Add("a.txt", blob)], Words("acknowledged"))

    writer = threading.Thread(target=rows_last)
    listed = LocalBlobs.blobs

    def while_it_is_listed(self: LocalBlobs, *args: Any) -> Iterator[BlobInfo]:
        if writer.ident is None:
            writer.start()
            writer.join(1)  # it is done by then, or waits for the sweep
        return listed(self, *args)

    monkeypatch.setattr(LocalBlobs, "blobs", while_it_is_listed)
    settings = Settings(home=home_folder, database_url="", blobs_url="")
    database.collect_garbage(settings, hours=0)
    writer.join(60)
    assert database.check(settings, deep=True).problems == ()
