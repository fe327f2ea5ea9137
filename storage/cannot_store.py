"""Disks that take no more: which errors of the machine and of the databases mean a full disk or a read-only mount.

They become `CannotStore`, whose words name no path: they are told to strangers too.
"""

from __future__ import annotations

import errno
import functools
import sqlite3
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from storage.errors import CannotStore

P = ParamSpec("P")
R = TypeVar("R")

FULL_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
"""Of SQLite; the second: no room for the index of its log."""
FULL_STATE = "53100"
"""Of PostgreSQL."""


def disk_full() -> CannotStore:
    return CannotStore(
        "The disk of this hub is full: nothing was stored, what was stored before is as it was.",
        remedy="Free some space on it; with a little room `mixhub db gc` removes what nobody needs.",
    )


def read_only() -> CannotStore:
    return CannotStore(
        "This hub lies on a read-only mount: it can be read, and nothing can be stored.",
        remedy="Mount it writable, or set MIXHUB_HOME to another folder.",
    )


def meaning_of(error: BaseException | None) -> CannotStore | None:
    """None: another failure."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or getattr(error, "sqlstate", None) == FULL_STATE:
        return disk_full()
    if number == errno.EROFS:
        return read_only()
    code = getattr(error, "sqlite_errorcode", None)
    if code in FULL_CODES:
        return disk_full()
    if code is not None and code & 0xFF == sqlite3.SQLITE_READONLY:
        return read_only()
    return None


def told(work: Callable[P, R]) -> Callable[P, R]:
    """The function, with a full disk or read-only mount as `CannotStore`."""

    @functools.wraps(work)
    def telling(*args: P.args, **options: P.kwargs) -> R:
        try:
            return work(*args, **options)
        except OSError as error:
            meant = meaning_of(error)
            if meant is None:
                raise
            raise meant from error

    return telling


def tell_of(engine: Engine) -> None:
    """The same for all that the database does."""
    event.listen(engine, "handle_error", _handle)


def _handle(context: ExceptionContext) -> Any:
    connection = context.connection
    if connection is not None and connection.get_execution_options().get("readonly"):
        return  # a reader that writes is a mistake of ours, on any disk
    meant = meaning_of(context.original_exception)
    if meant is not None:
        raise meant from context.original_exception
