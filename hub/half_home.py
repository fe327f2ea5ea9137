"""A home that is being restored: a marker says so until all is there, and keeps everybody else out."""

from __future__ import annotations

import os
from pathlib import Path

from hub.errors import HubError

MARKER = "restore.unfinished"


def refuse(directory: Path) -> None:
    """Raises HubError where a restore into this home has begun and has not ended."""
    if (directory / MARKER).exists():
        raise HubError(
            f"{directory} is half a home: restoring a backup into it was begun and is not done.",
            remedy=f"Finish it: mixhub restore {_backup_of(directory)}",
        )


def mark(directory: Path, backup: Path) -> None:
    """The marker is on disk after that, and readable to say what to do."""
    half = directory / f"{MARKER}.half"
    with half.open("w", encoding="utf-8") as file:
        file.write(f"{backup.absolute()}\n")
        file.flush()
        os.fsync(file.fileno())
    half.rename(directory / MARKER)
    sync_folder(directory)


def unmark(directory: Path) -> None:
    (directory / MARKER).unlink()
    sync_folder(directory)


def is_marked(directory: Path) -> bool:
    return (directory / MARKER).exists()


def _backup_of(directory: Path) -> str:
    try:
        return (directory / MARKER).read_text(encoding="utf-8").strip() or "DIR"
    except OSError:
        return "DIR"


def sync_folder(folder: Path) -> None:
    """A rename lasts only once its folder is on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
