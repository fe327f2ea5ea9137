"""Opening the database and the two kinds of transaction.

SQLite's defaults lose updates when a transaction reads before it writes (measured: 138 of 599). So a writer takes the
write lock at its start (BEGIN IMMEDIATE) and waits for it, and a reader sees one snapshot and may not write. PostgreSQL
gets the same contract: readers see a snapshot; writers lock the rows they decide on (`repos.lock`).
Sessions belong to one thread; an engine may be shared. Whoever opens an engine disposes it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from storage import cannot_store, sqlite_connect
from storage.errors import StorageError

BUSY_TIMEOUT_MS = 30_000
IO_ERROR_SECONDS = 1.0
"""For which a connection that gets an I/O error tries to enter WAL again."""
POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": 50, "pool_timeout": 60}
"""A server answers and takes uploads in some hundred threads; a PostgreSQL server has 100 connections by default."""


def open_database(url: str) -> Engine:
    """An engine for `sqlite:///FILE` or `postgresql://...`. Connects to nothing yet and creates no table."""
    parsed = _parse(url)
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(parsed, pool_pre_ping=True, **POOL)
        cannot_store.tell_of(engine)
        return engine
    engine = create_engine(parsed, **_pool(parsed))
    cannot_store.tell_of(engine)
    sqlite_connect.open_anyhow(engine)
    event.listen(engine, "connect", _prepare_sqlite)
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


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself: _begin_sqlite does
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    _enter_wal(connection)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA recursive_triggers=ON")  # else INSERT OR REPLACE deletes without asking the triggers


def _enter_wal(connection: sqlite3.Connection) -> None:
    """WAL is a property of the file. SQLite does not wait for the lock when two processes switch at once, so we do; and
    once, under load, a first look at the file gave an I/O error that was none of the disk's."""
    started = time.monotonic()
    patience = {"locked": BUSY_TIMEOUT_MS / 1000, "disk I/O error": IO_ERROR_SECONDS}
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            waited, said = time.monotonic() - started, str(error)
            if waited > max((seconds for words, seconds in patience.items() if words in said), default=-1.0):
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get("readonly"):
        connection.exec_driver_sql("PRAGMA query_only=ON")
        connection.exec_driver_sql("BEGIN")
    else:
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
