"""A connection to a SQLite file that takes its turn before it writes, and looks after the file (`DatabaseFile`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from storage.database_file import DatabaseFile


class SqliteConnection(sqlite3.Connection):
    """`file` None: a database in memory, which nobody shares."""

    file: DatabaseFile | None = None

    def look(self) -> None:
        """Before a transaction that reads. Raises DatabaseLost."""
        if self.file is not None:
            self.file.check()

    @contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """In the block a transaction that writes is begun; its end ends the turn. Raises DatabaseBusy, DatabaseLost."""
        if self.file is None:
            yield
            return
        try:
            self.file.writers.enter(self, seconds)
            self.file.check()
            with self.file.next_among_processes(seconds):
                yield
        except BaseException:
            self._end_turn()
            raise

    def commit(self) -> None:
        """Raises DatabaseLost where what was committed may be gone."""
        super().commit()
        if self.file is not None and self.file.writers.has_turn(self):
            try:
                self.file.check()
            finally:
                self._end_turn()

    def rollback(self) -> None:
        try:
            super().rollback()
        finally:
            self._end_turn()

    def close(self) -> None:
        self._end_turn()
        file, self.file = self.file, None
        if file is None:
            super().close()
        else:
            file.leave(self, super().close)

    def _end_turn(self) -> None:
        if self.file is not None and self.file.writers.has_turn(self):
            self.file.writers.leave(self)
