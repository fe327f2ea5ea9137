"""Every error that `storage` raises on purpose.

One root, `StorageError`; a child also inherits the standard exception that a caller would expect, and carries the thing
in conflict. `remedy` is the command or option that repairs it. To add one: subclass the nearest child below.
"""

from __future__ import annotations


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


class CannotStore(StorageError):
    """The disk is full, or the home lies on a read-only mount. What was stored before is as it was."""


class BadBackup(StorageError):
    """A folder that is no finished backup, or what could not be backed up or restored."""


class SchemaOutdated(StorageError, RuntimeError):
    """The database is at another schema than this program, or differs from the models."""
