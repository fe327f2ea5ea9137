"""What closing does to `-wal`: SQLite's last user of a database merges it into the file and deletes it.

SQLite knows other users by POSIX locks, and those of a process are gone as soon as any code of it closes the file
(sqlite.org/howtocorrupt.html, 2.2). So its belief to be the last is not enough here: by default nobody merges, and
`DatabaseFile` allows it to a connection that is the last one by a better proof.

From Python 3.12 on a connection can be told so. Before, each process keeps one more connection to the file, which
nothing closes but the end of the process: not even the interpreter's own ending, which closes what it finds. While it
is open, SQLite itself says of every other connection of the process that it is not the last.
"""

from __future__ import annotations

import ctypes
import sqlite3
import sys
from pathlib import Path

if sys.version_info >= (3, 12):

    def spare_log(connection: sqlite3.Connection, path: str) -> None:
        """Closing `connection` leaves `-wal` as it is."""
        del path
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)

    def merge_log(connection: sqlite3.Connection, path: str) -> None:
        """Closing `connection`, the last one, merges `-wal` and deletes it."""
        del path
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, False)

else:
    _kept: dict[tuple[int, int], sqlite3.Connection] = {}
    """By device and inode of the file."""

    def spare_log(connection: sqlite3.Connection, path: str) -> None:
        """Closing `connection` leaves `-wal` as it is."""
        del connection
        status = Path(path).stat()
        if (status.st_dev, status.st_ino) in _kept:
            return
        keeper = sqlite3.connect(path, check_same_thread=False)
        keeper.execute("PRAGMA schema_version").fetchall()  # it holds SQLite's lock from its first look on
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(keeper))
        _kept[status.st_dev, status.st_ino] = keeper

    def merge_log(connection: sqlite3.Connection, path: str) -> None:
        """Closing `connection`, the last one, merges `-wal` and deletes it."""
        del connection
        status = Path(path).stat()
        keeper = _kept.pop((status.st_dev, status.st_ino), None)
        if keeper is not None:
            keeper.close()
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(keeper))
