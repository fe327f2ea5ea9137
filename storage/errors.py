"""Every error that `storage` raises on purpose.

One root, `StorageError`; a child also inherits the standard exception that a caller would expect, and carries the thing
in conflict. `remedy` is the command or option that repairs it. To add one: subclass the nearest child below.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class StorageError(Exception):
    """Root of all errors of this package. `remedy` may be empty; it is shown on a line of its own."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class NotFound(StorageError, LookupError):
    """The account, repo, revision, ref, alias, blob or search does not exist (or is deleted)."""


class InvalidName(StorageError, ValueError):
    """A name or path that may not be used; the message says which rule it breaks."""


class AlreadyExists(StorageError):
    """Something live has this name already."""


class Conflict(StorageError):
    """Somebody else was first. `expected` is what the caller believed, `found` what is there."""

    def __init__(
        self, message: str, *, expected: str | None = None, found: str | None = None, remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.expected = expected
        self.found = found


class VersionTaken(Conflict):
    """The version is, or once was, the name of other content. `expected` and `found` are tree digests."""


class PinnedRevision(StorageError):
    """A revision that cannot go because aliases or mixes name it; `pins` lists them."""

    def __init__(self, message: str, *, pins: tuple[str, ...], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.pins = pins


class CorruptBlob(StorageError, ValueError):
    """Bytes whose digest or size is not the one that was promised. Nothing was stored."""


class DamagedBlob(StorageError):
    """Stored bytes that are missing, short or other ones than their sha256 says; `reason` says which of it.

    Only for those who may read the file: the words name its digest. `path` is the file where one is read.
    """

    def __init__(self, sha256: str, reason: str, *, path: str = "") -> None:
        what = f"{path} (sha256 {sha256})" if path else f"The blob {sha256}"
        super().__init__(
            f"{what} is damaged: {reason}.",
            remedy="Upload the file again, or, where it is stored: mixhub db check --deep --repair --from BACKUP",
        )
        self.sha256 = sha256
        self.reason = reason

    @classmethod
    @contextmanager
    def named(cls, path: str) -> Iterator[None]:
        """Inside the block damage is told with the path of the file that is read."""
        try:
            yield
        except cls as error:
            raise cls(error.sha256, error.reason, path=path) from error


class Swept(StorageError):
    """Bytes that were stored, and swept before anything referred to them. Nothing was recorded."""


class CannotStore(StorageError):
    """The disk is full, or the home lies on a read-only mount. What was stored before is as it was."""


class BadBackup(StorageError):
    """A folder that is no finished backup, or what could not be backed up or restored."""


class SchemaOutdated(StorageError, RuntimeError):
    """The database is at another schema than this program, or differs from the models."""


class DatabaseBusy(StorageError):
    """Others write all the time; nothing was changed, and trying again may help."""


class DatabaseLost(StorageError):
    """The files of the database are not those that were opened. Nothing more may be done with them in this process."""
