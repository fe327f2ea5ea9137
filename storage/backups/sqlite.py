"""Copies of SQLite databases, made by SQLite itself beside writers: the file is never opened in any other way.

(Whoever opens and closes it otherwise drops the locks that the whole process has on it.)
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from storage import cannot_store, sqlite_connect
from storage.errors import BadBackup


def copy(engine: Engine, target: Path) -> None:
    """One snapshot of the engine's database into an empty file. Raises BadBackup where it is damaged."""
    with closing(engine.raw_connection()) as opened, closing(sqlite3.connect(target)) as copied:
        copied.execute("PRAGMA synchronous=OFF")  # whoever asked syncs the whole file
        copied.execute("PRAGMA journal_mode=MEMORY")
        source = opened.dbapi_connection
        assert isinstance(source, sqlite3.Connection)
        source.backup(copied)  # in one step, so that what is committed meanwhile is not waited for
    with closing(_frozen(target)) as copied:
        wrong = [str(row[0]) for row in copied.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
    if wrong:
        raise BadBackup(
            f"The database {target.name.partition('.')[0]} is damaged: {'; '.join(wrong)}",
            remedy="Restore an earlier backup.",
        )


def plain_engine(path: Path) -> Engine:
    """Of a database that is another program's to set up."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    cannot_store.tell_of(engine)
    sqlite_connect.open_anyhow(engine)
    return engine


def frozen_engine(path: Path) -> Engine:
    """Of a file that nobody writes: nothing is written beside it either."""
    return create_engine("sqlite://", creator=lambda: _frozen(path), poolclass=NullPool)


def _frozen(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?immutable=1", uri=True)
