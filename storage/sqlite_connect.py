"""How SQLite's file is opened where its own way would have to write: WAL keeps an index beside the file, also to read.

A read-only mount: nobody writes there, so the file is read without locks and index (`immutable`), if it has no log
beside it that was never merged. A full disk: the index is kept in memory, which SQLite does for one connection that has
the file to itself (`locking_mode=EXCLUSIVE`); others wait for it. Both are left again after each transaction, so that
the next one finds out what holds by then.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from sqlalchemy import Engine, event
from sqlalchemy.engine import Dialect
from sqlalchemy.pool import ConnectionPoolEntry

from storage.cannot_store import FULL_CODES, read_only
from storage.errors import CannotStore

_ONCE = "for one transaction"


def open_anyhow(engine: Engine) -> None:
    """Let the engine of an SQLite file also read on a read-only mount and on a full disk."""
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "checkin", _check_in)


def is_for_one_transaction(entry: ConnectionPoolEntry) -> bool:
    """Whether this connection is one of those that have the file to themselves, or a file that nobody writes."""
    return bool(entry.info.get(_ONCE))


def on_read_only_mount(path: Path) -> bool:
    """Whether the file system of the folder that holds `path` is mounted read-only. False where there is none."""
    try:
        return bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _connect(dialect: Dialect, entry: ConnectionPoolEntry, args: list[Any], options: dict[str, Any]) -> Any:
    name = args[0] if args else ""
    if name in ("", ":memory:") or options.get("uri"):
        return None  # SQLAlchemy connects
    path = Path(name)
    if on_read_only_mount(path):
        _refuse_unreadable(path)
        entry.info[_ONCE] = True
        return dialect.connect(f"file:{quote(str(path.absolute()))}?immutable=1", **{**options, "uri": True})
    connection = cast(sqlite3.Connection, dialect.connect(*args, **options))
    if not _lacks_room(connection):
        return connection
    connection.close()
    connection = cast(sqlite3.Connection, dialect.connect(*args, **options))
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    entry.info[_ONCE] = True
    return connection


def _lacks_room(connection: sqlite3.Connection) -> bool:
    """Whether a first look at the file fails for want of room. Any other failure is met again by whoever asked."""
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", None) in FULL_CODES
    return False


def _refuse_unreadable(path: Path) -> None:
    log = Path(f"{path}-wal")
    if not path.exists():
        raise read_only()
    if log.exists() and log.stat().st_size > 0:
        raise CannotStore(
            "This hub lies on a read-only mount, and its last writes are still in the log beside its database, "
            "which can only be merged where it can be written.",
            remedy="Mount it writable, run `mixhub db check` there, and mount it read-only again.",
        )


def _check_in(_connection: Any, entry: ConnectionPoolEntry) -> None:
    if entry.info.pop(_ONCE, False):
        entry.invalidate()
