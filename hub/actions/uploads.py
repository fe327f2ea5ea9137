"""Bytes on their way in: who they belong to, how much room is left, how a file should be sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import re2
from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern
from sqlalchemy.orm import Session

from hub.actions.publish import LFS_SUFFIXES, REGULAR_UP_TO
from hub.errors import TooLarge, UsageError
from hub.home import Home
from hub.revision_content import refuse_by_name
from hub.settings import Settings
from storage import accounts, blob_records, damage
from storage.blobs import StoredBlob
from storage.names import check_path


def record(home: Home, tenant: int, blobs: Sequence[StoredBlob]) -> None:
    """Note that these bytes, stored by now, are this account's to use."""
    if blobs:
        with home.write() as session:
            blob_records.require_bytes(session, home.blobs, blobs)
            blob_records.record(session, accounts.by_id(session, tenant), blobs)


def at_hand(home: Home, blobs: Mapping[str, StoredBlob]) -> dict[str, StoredBlob]:
    """Those of the recorded blobs whose bytes need not be sent again: they are in the store, and not found damaged.

    Asks the store, so not to be called inside of a transaction.
    """
    with home.read() as session:
        damaged = damage.found(session, blobs)
    return {
        sha256: blob for sha256, blob in blobs.items() if sha256 not in damaged and home.blobs.has(sha256, blob.size)
    }


def check_room(session: Session, settings: Settings, tenant: int, *, coming: int) -> None:
    """Raises TooLarge where `coming` more bytes would be more than a namespace may have."""
    if settings.namespace_bytes and blob_records.used_bytes(session, tenant) + coming > settings.namespace_bytes:
        raise TooLarge(
            f"{accounts.by_id(session, tenant).name} may upload {settings.namespace_bytes} bytes in all; "
            f"{coming} more do not fit."
        )


def upload_mode(path: str, *, size: int, sample: bytes) -> str:
    """ "regular" inside the commit for small texts, else "lfs". Raises InvalidName or BadUpload for the path."""
    check_path(path)
    refuse_by_name(path)
    binary = b"\0" in sample
    large = size > REGULAR_UP_TO or Path(path).suffix.lower() in LFS_SUFFIXES
    return "lfs" if large or binary else "regular"


def ignore_rules(git_ignore: str) -> GitIgnoreSpec:
    """What the text of a .gitignore leaves out: `.match_file(path)`. It differs from git where a file is kept below a
    folder that is left out: git never looks there. Raises UsageError for more than can be matched in bounded memory.
    """
    try:
        return GitIgnoreSpec([rule for line in git_ignore.split("\n") if (rule := _rule(line))])
    except re2.error as error:
        raise UsageError(
            "The .gitignore has more or longer patterns than can be matched.",
            remedy="leave the files out by ignore_patterns of the upload instead",
        ) from error


def _rule(line: str) -> GitIgnoreSpecPattern | None:
    try:
        return GitIgnoreSpecPattern(line.removesuffix("\r"))
    except (GitIgnorePatternError, re.error):
        return None  # git, too, passes over a line that is no pattern
