"""Which failures mean a disk that takes no more. Real disks are in tests/journeys/test_unwritable_disks.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from storage import accounts, open_database, read, write
from storage.blobs import LocalBlobs
from storage.cannot_store import meaning_of, told
from storage.errors import CannotStore


class OfPostgres(Exception):
    sqlstate = "53100"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/secret/place"), "is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/secret/place"), "is full"),
        (OSError(errno.EROFS, "Read-only file system", "/secret/place"), "read-only mount"),
        (OfPostgres("could not extend file"), "is full"),
        (OSError(errno.EIO, "Input/output error", "/secret/place"), None),
        (ValueError("/secret/place"), None),
        (None, None),
    ],
)
def test_what_an_error_means_names_no_path(error: Exception | None, words: str | None) -> None:
    meant = meaning_of(error)
    assert (meant is None) == (words is None)
    if meant is not None and words is not None:
        assert words in meant.message and "secret" not in str(meant) and meant.remedy


def test_other_failures_of_the_machine_stay_what_they_are() -> None:
    with pytest.raises(OSError, match="I/O"):
        told(lambda: (_ for _ in ()).throw(OSError(errno.EIO, "I/O")).__next__())()


def test_a_database_that_is_full_keeps_what_it_has_and_goes_on_when_there_is_room(
    sqlite_template: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mixhub.sqlite"
    path.write_bytes(sqlite_template.read_bytes())
    engine = open_database(f"sqlite:///{path}")
    with write(engine) as session:
        accounts.ensure(session, "before")
        pages = session.execute(text("PRAGMA page_count")).scalar_one()
    with pytest.raises(CannotStore, match="is full"), write(engine) as session:
        session.execute(text(f"PRAGMA max_page_count={pages}"))
        for number in range(1000):
            accounts.ensure(session, f"account-{number}")
    with write(engine) as session:
        session.execute(text("PRAGMA max_page_count=100000"))
        assert {account.name for account in accounts.every(session)} == {"before"}
        accounts.ensure(session, "after")
    with read(engine) as session:
        assert {account.name for account in accounts.every(session)} == {"before", "after"}
    engine.dispose()


def test_a_reader_that_writes_is_a_mistake_not_a_read_only_disk(engine: Engine) -> None:
    with pytest.raises(Exception) as caught, read(engine) as session:
        accounts.ensure(session, "x")
    assert not isinstance(caught.value, CannotStore)
    assert isinstance(caught.value, OperationalError) or engine.dialect.name == "postgresql"


def test_a_blob_for_which_there_is_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalBlobs(tmp_path / "blobs")
    kept = store.put_stream([b"kept"])

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)  # where delayed allocation says it
    with pytest.raises(CannotStore) as caught:
        store.put_stream([b"more"])
    assert str(tmp_path) not in str(caught.value)
    assert [blob.sha256 for blob in store.blobs()] == [kept.sha256] and list(store.leftovers()) == []
