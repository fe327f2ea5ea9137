"""A SQLite file as this process has it open: whether it is still the same, who else has it, whose turn it is to write.

Where `-wal` is deleted under a running process, what that process commits goes into a file without a name and is lost.
So:

- Nothing but SQLite opens the files of a database: closing them would drop SQLite's locks (a test holds us to it).
- Who has the database open says so by flock on its folder, which no other descriptor drops; only the last one there
  lets SQLite merge and delete `-wal` (`storage/closing.py`).
- Before each transaction, and after each commit, the file and its `-wal` must be those that were opened. Else nothing
  more is done with them in this process: a restart is safe, going on is not.
- Writers take turns, by a queue among the threads of the process, and by a lock file among processes: whoever has it
  is next. It is held only until the transaction has begun, so a process that writes all the time cannot be first twice.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.closing import merge_log, spare_log
from storage.errors import DatabaseBusy, DatabaseLost
from storage.writers_queue import WritersQueue

Identity = tuple[int, int] | None
"""Device and inode; None: there is no such file."""

LOST = frozenset(
    {
        "SQLITE_IOERR_SHORT_READ", "SQLITE_IOERR_READ", "SQLITE_IOERR_CORRUPTFS", "SQLITE_IOERR_VNODE",
        "SQLITE_READONLY_DBMOVED",
    }
)  # fmt: skip
"""SQLite's errors that say that the files are not those that it knows. A full disk is none of them."""

_files: dict[str, DatabaseFile] = {}
"""By path: what this process has open, and what it has lost."""
_changing = threading.RLock()
"""Held while connections come and go: the last one to go must know that it is."""


class DatabaseFile:
    """One for all connections of the process to the file at `path`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.on_lost: Callable[[DatabaseLost], None] | None = None
        """Called once, from whichever thread noticed."""
        self.writers = WritersQueue()
        self._watched = (Path(path), Path(f"{path}-wal"))
        self._connections = 0
        self._opened: tuple[Identity, Identity] = (None, None)
        self._lost = ""
        self._folder = _locked_folder(path)
        self._turn_file: int | None = None

    def check(self) -> None:
        """Raises DatabaseLost unless the file and its `-wal` are those that were opened."""
        if self._lost:
            raise self._error()
        if (found := self._identities()) != self._opened:
            compared = zip(self._watched, self._opened, found, strict=True)
            what = (f"{path.name} was {'replaced' if now else 'deleted'}" for path, was, now in compared if was != now)
            raise self.lose(" and ".join(what))

    def lose(self, why: str) -> DatabaseLost:
        """From here on nothing is done with the file in this process. Returns the error to raise."""
        with _changing:
            first, self._lost = not self._lost, self._lost or why
        error = self._error()
        if first and self.on_lost is not None:
            self.on_lost(error)
        return error

    @contextmanager
    def next_among_processes(self, seconds: float) -> Iterator[None]:
        """No other process begins to write before this one. For the thread whose turn it is."""
        file = self._lock_file()
        deadline = time.monotonic() + seconds
        while file is not None and not _try_lock(file):
            if time.monotonic() > deadline:
                raise DatabaseBusy(
                    f"Another process has been about to write to the database for {seconds:.0f} s.",
                    remedy="See whether a mixhub process is suspended, and try again.",
                )
            time.sleep(0.002)
        try:
            yield
        finally:
            if file is not None:
                fcntl.flock(file, fcntl.LOCK_UN)

    def leave(self, connection: sqlite3.Connection, close: Callable[[], None]) -> None:
        """Close a connection. The last one of all processes lets SQLite merge `-wal`."""
        with _changing:
            self._connections -= 1
            last = self._connections == 0
            try:
                if last and self._is_sound() and self._folder is not None and _try_lock(self._folder):
                    merge_log(connection, self.path)
                close()
            finally:
                if last:
                    self._forget()

    def _join(self, connection: sqlite3.Connection, prepare: Callable[[sqlite3.Connection], None]) -> None:
        if self._lost:
            raise self._error()
        try:
            prepare(connection)
            connection.execute("PRAGMA schema_version").fetchall()  # a first look, which opens -wal
        except sqlite3.Error as error:
            if (name := getattr(error, "sqlite_errorname", "")) in LOST:
                raise self.lose(f"reading it failed ({name})") from error
            raise
        if self._connections == 0:
            self._opened = self._identities()
        self.check()
        spare_log(connection, self.path)
        self._connections += 1

    def _forget(self) -> None:
        """The process has it open no more. What was lost stays known: SQLite may still have parts of it in memory."""
        if not self._lost:
            _files.pop(self.path, None)
        for descriptor in (self._folder, self._turn_file):
            if descriptor is not None:
                os.close(descriptor)
        self._folder = self._turn_file = None

    def _is_sound(self) -> bool:
        return not self._lost and self._identities() == self._opened

    def _identities(self) -> tuple[Identity, Identity]:
        database, log = self._watched
        return _identity(database), _identity(log)

    def _lock_file(self) -> int | None:
        if self._turn_file is None:
            try:
                self._turn_file = os.open(f"{self.path}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:  # a disk that is full or may not be written: SQLite's own lock must do
                return None
        return self._turn_file

    def _error(self) -> DatabaseLost:
        return DatabaseLost(
            f"The database is not the one that was opened: {self._lost}. Nothing more is written.",
            remedy="End every process that uses this home and start again; then: mixhub db check --deep",
        )


def join(
    path: str,
    connection: sqlite3.Connection,
    prepare: Callable[[sqlite3.Connection], None],
    on_lost: Callable[[DatabaseLost], None] | None = None,
) -> DatabaseFile:
    """The file of a new connection, which `prepare` makes ready. Whoever joins, leaves. Raises DatabaseLost."""
    with _changing:
        file = _files.get(path)
        if file is None:
            file = _files[path] = DatabaseFile(path)
        file.on_lost = on_lost or file.on_lost
        try:
            file._join(connection, prepare)
        finally:
            if file._connections == 0:
                file._forget()
    return file


def _identity(path: Path) -> Identity:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _locked_folder(path: str) -> int | None:
    """The folder of the database, locked as in use. None: this file system knows no such locks, and nobody is last."""
    try:
        folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(folder, fcntl.LOCK_SH)  # whoever is merging ends soon
    except OSError:
        os.close(folder)
        return None
    return folder


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
