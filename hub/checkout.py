"""Revisions as folders that readers can open: `<home>/checkouts/<commit>/`, links to blobs, or copies of remote ones.

A checkout is a cache: it holds nothing that the blobs do not, is complete or absent, and may be deleted at any time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from hub.home import Home
from storage.revisions import File


def check_out(home: Home, commit_id: str, files: Iterable[File]) -> Path:
    """The folder with all `files` of revision `commit_id`; made on first use."""
    place = home.directory / "checkouts" / commit_id
    if place.is_dir() and all((place / file.path).exists() for file in files):
        return place
    shutil.rmtree(place, ignore_errors=True)  # links whose blobs have moved
    place.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{commit_id[:12]}-", dir=place.parent))
    try:
        for file in files:
            target = building / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            blob = home.blobs.local_path(file.sha256)
            if blob is None:
                write_blob(home, file.sha256, target)
            else:
                target.symlink_to(blob)
        building.rename(place)
    except OSError:
        if not place.is_dir():  # else another process was first; the content is the same
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return place


def write_blob(home: Home, sha256: str, target: Path) -> None:
    """Copy one blob to `target`, which appears complete or not at all."""
    handle, name = tempfile.mkstemp(prefix=".mixhub-", dir=target.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in home.blobs.iterate(sha256):
                file.write(chunk)
        partial.chmod(0o644)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
