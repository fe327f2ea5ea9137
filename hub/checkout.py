"""Revisions, or folders of one, that readers can open: in `<home>/checkouts/`, links to blobs or copies of remote ones.

A checkout is a cache: it holds nothing that the blobs do not, is complete or absent, and may be deleted at any time.
What it leads to is digested before it is handed out, once in every process.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from hub.home import Home
from storage.errors import DamagedBlob
from storage.revisions import File


def check_out(home: Home, commit_id: str, files: Iterable[File], *, folder: str = "") -> Path:
    """`folder` of revision `commit_id` with all its `files`; made on first use. Raises DamagedBlob.

    Folders have checkouts of their own, so that of a large repo only what is read is digested.
    """
    name = f"{commit_id}-{hashlib.sha256(folder.encode()).hexdigest()[:12]}" if folder else commit_id
    place = home.directory / "checkouts" / name
    wanted = list(files)
    if place.is_dir() and all(_is_there(home, place / file.path, file) for file in wanted):
        return place / folder
    shutil.rmtree(place, ignore_errors=True)  # links whose blobs have moved, or copies that are not right any more
    place.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{commit_id[:12]}-", dir=place.parent))
    try:
        for file in wanted:
            place_file(home, file, building / file.path)
        building.rename(place)
    except OSError:
        if not place.is_dir():  # else another process was first; the content is the same
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return place / folder


def place_file(home: Home, file: File, target: Path) -> None:
    """Make `target` a link to the file's blob, or a copy of a remote one. Raises DamagedBlob."""
    target.parent.mkdir(parents=True, exist_ok=True)
    blob = path_of(home, file)
    if blob is None:
        write_file(home, file, target)
    else:
        target.symlink_to(blob.absolute())


def path_of(home: Home, file: File) -> Path | None:
    """Where the file's blob lies on this machine, digested by now. None: elsewhere. Raises DamagedBlob."""
    with DamagedBlob.named(file.path):
        home.blobs.expect(file.sha256, file.size)
        return home.blobs.local_path(file.sha256)


def _is_there(home: Home, place: Path, file: File) -> bool:
    """Also says no where the link leads to another store than that of today."""
    blob = path_of(home, file)
    if blob is None:
        return not place.is_symlink() and home.blobs.is_copy(place, file.sha256)
    return place.exists() and place.samefile(blob)


def write_file(home: Home, file: File, target: Path) -> None:
    """Copy the file to `target`, which appears complete and right or not at all. Raises DamagedBlob."""
    handle, name = tempfile.mkstemp(prefix=".mixhub-", dir=target.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as copy, DamagedBlob.named(file.path):
            for chunk in home.blobs.iterate(file.sha256, size=file.size):
                copy.write(chunk)
        partial.chmod(0o644)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
