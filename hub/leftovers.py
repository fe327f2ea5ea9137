"""What interrupted work leaves in a home's folder: parts of uploads, and checkouts that were being built.

All of it is worthless once nobody works on it any more, which only its age shows.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from hub.settings import Settings


def scratch_of(directory: Path) -> Path:
    """For parts of uploads and downloads, in the home at `directory`."""
    return directory / "uploads"


def seconds_in_use(settings: Settings) -> float:
    """After this long no token leads to an upload any more."""
    return max(3 * settings.upload_seconds, 6 * 3600)


def sweep(directory: Path, *, older_than: float) -> int:
    """Remove the leftovers in the home at `directory` that nobody touched for so many seconds; returns how many."""
    limit, removed = time.time() - older_than, 0
    for path in _leftovers(directory):
        try:
            if path.stat().st_mtime >= limit:
                continue
            path.unlink() if path.is_file() else shutil.rmtree(path)
            removed += 1
        except FileNotFoundError:  # finished, or swept by another process, while we look
            continue
    return removed


def _leftovers(directory: Path) -> Iterator[Path]:
    scratch = scratch_of(directory)
    for place in (scratch / "xet", scratch / "lfs"):
        yield from place.glob("*")
    yield from (path for path in scratch.glob("*") if path.is_file())
    yield from (directory / "checkouts").glob(".*")
