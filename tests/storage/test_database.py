from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from storage import accounts, open_database, read, write
from storage.errors import StorageError


class TestTransactions:
    def test_a_writer_that_fails_changes_nothing(self, engine: Engine) -> None:
        with pytest.raises(RuntimeError), write(engine) as session:
            accounts.ensure(session, "ann")
            raise RuntimeError
        with read(engine) as session:
            assert accounts.every(session) == []

    def test_a_reader_cannot_write_and_the_next_writer_can(self, engine: Engine) -> None:
        with read(engine) as session, pytest.raises(DBAPIError, match=r"read-?only"):
            accounts.ensure(session, "ann")
        with write(engine) as session:
            accounts.ensure(session, "ann")

    def test_a_reader_sees_one_snapshot_and_does_not_hold_up_a_writer(self, engine: Engine) -> None:
        with read(engine) as reader:
            assert accounts.every(reader) == []
            with write(engine) as writer:
                accounts.ensure(writer, "ann")
            assert accounts.every(reader) == []
        with read(engine) as reader:
            assert len(accounts.every(reader)) == 1

    def test_times_come_back_in_utc(self, engine: Engine) -> None:
        with write(engine) as session:
            made = accounts.ensure(session, "ann")
        with read(engine) as session:
            assert accounts.find(session, "ann").created_at == made.created_at
            assert made.created_at.tzname() == "UTC"


def test_sqlite_runs_with_the_settings_that_lose_no_updates(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'a.sqlite'}")
    with engine.connect() as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        }
    engine.dispose()
    assert found == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 30_000, "foreign_keys": 1}


@pytest.mark.parametrize("url", ["mysql://user:secret@host/x", "oracle://host/x", "not a url user:secret"])
def test_other_databases_are_refused_without_showing_the_password(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_database(url)
    assert "secret" not in str(caught.value)
    assert "sqlite:///" in caught.value.remedy


def test_postgresql_urls_need_no_driver_name() -> None:
    for scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        engine = open_database(f"{scheme}://user@host/name")
        assert engine.dialect.driver == "psycopg"
        engine.dispose()
