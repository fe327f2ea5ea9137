"""Opening the database and the two kinds of transaction.

SQLite's defaults lose updates when a transaction reads before it writes (measured: 138 of 599). So a writer takes the
write lock at its start (BEGIN IMMEDIATE) and waits for it, and a reader sees one snapshot and may not write. PostgreSQL
gets the same contract: readers see a snapshot; writers lock the rows they decide on (`repos.lock`).
A commit is on the disk when it is acknowledged (synchronous=FULL). What guards a SQLite file against other programs
is in `database_file.py`.
Sessions belong to one thread; an engine may be shared. Whoever opens an engine disposes it.
"""

from __future__ import annotations

import functools
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from storage import cannot_store, sqlite_connect
from storage.database_file import LOST, join
from storage.errors import DatabaseBusy, DatabaseLost, StorageError
from storage.sqlite_connection import SqliteConnection

BUSY_TIMEOUT_MS = 30_000
POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": 50, "pool_timeout": 60}
"""A server answers and takes uploads in some hundred threads; a PostgreSQL server has 100 connections by default."""


def open_database(url: str, *, on_lost: Callable[[DatabaseLost], None] | None = None) -> Engine:
    """An engine for `sqlite:///FILE` or `postgresql://...`. Connects to nothing yet and creates no table.

    Where a SQLite file is replaced or its log deleted, `on_lost` is called once, from any thread; every use of the
    engine raises DatabaseLost from then on.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(parsed, pool_pre_ping=True, **POOL)
        cannot_store.tell_of(engine)
        return engine
    engine = create_engine(parsed, connect_args={"factory": SqliteConnection}, **_pool(parsed))
    event.listen(engine, "handle_error", _failed_sqlite)
    cannot_store.tell_of(engine)
    sqlite_connect.open_anyhow(engine)
    event.listen(engine, "connect", functools.partial(_connected, on_lost))
    event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def write(engine: Engine) -> Iterator[Session]:
    """A session that commits at the end, or rolls back when the block raises. On SQLite: one writer at a time."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def read(engine: Engine) -> Iterator[Session]:
    """A session that sees one snapshot and cannot write."""
    if engine.dialect.name == "postgresql":
        reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    else:
        reader = engine.execution_options(readonly=True)
    with Session(reader, expire_on_commit=False) as session:
        yield session


def _pool(parsed: URL) -> dict[str, Any]:
    """A database in memory has one connection of its own per thread, and no pool."""
    return POOL if parsed.database not in (None, "", ":memory:") else {}


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StorageError(
            "The database URL cannot be read.",  # without the URL: it may hold a password
            remedy="Set MIXHUB_DATABASE_URL to sqlite:////path/to/file or postgresql://user@host/name.",
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise StorageError(
            f"Databases of the kind {parsed.drivername!r} are not supported.",
            remedy="Use sqlite:////path/to/file or postgresql://user@host/name.",
        )
    return parsed


def _connected(
    on_lost: Callable[[DatabaseLost], None] | None, connection: SqliteConnection, entry: ConnectionPoolEntry
) -> None:
    """One for a single transaction shares the file with nobody: there is nothing to watch and no turn to take."""
    path = str(connection.execute("PRAGMA database_list").fetchone()[2])
    if path and not sqlite_connect.is_for_one_transaction(entry):
        connection.file = join(path, connection, _prepare_sqlite, on_lost)
    else:
        _prepare_sqlite(connection)


def _prepare_sqlite(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself: _begin_sqlite does
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    _enter_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")  # else a power cut takes back what was acknowledged
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA recursive_triggers=ON")  # else INSERT OR REPLACE deletes without asking the triggers


def _enter_wal(connection: sqlite3.Connection) -> None:
    """WAL is a property of the file. SQLite does not wait for the lock when two processes switch at once, so we do."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    own = _own(connection)
    if connection.get_execution_options().get("readonly"):
        own.look()
        connection.exec_driver_sql("PRAGMA query_only=ON")
        connection.exec_driver_sql("BEGIN")
        return
    with own.turn(BUSY_TIMEOUT_MS / 1000):
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _failed_sqlite(context: ExceptionContext) -> None:
    """SQLite's errors in the words of `storage`, where it has some."""
    name = getattr(context.original_exception, "sqlite_errorname", "")
    if name in LOST and context.connection is not None and (file := _own(context.connection).file) is not None:
        raise file.lose(f"reading it failed ({name})") from context.original_exception
    if name.startswith("SQLITE_BUSY"):
        raise DatabaseBusy(
            f"Another process has been writing to the database for {BUSY_TIMEOUT_MS // 1000} s.", remedy="Try again."
        ) from context.original_exception


def _own(connection: Connection) -> SqliteConnection:
    own = connection.connection.dbapi_connection
    assert isinstance(own, SqliteConnection)
    return own
