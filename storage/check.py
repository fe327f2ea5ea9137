"""Is a home consistent? Problems mean lost or wrong data; notes are things that the next sweep removes.

Looks at data only; whether the schema is right is `migrations.check`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Engine, exists, or_, select
from sqlalchemy.orm import Session

from storage.blobs.contract import BlobStore
from storage.database import read
from storage.models import AliasRow, BlobRow, FileRow, RefRow, RevisionRow


@dataclass(frozen=True)
class Problem:
    """One finding. `severity` is "problem" or "note"; `subject` is the blob, file, ref ... that it is about."""

    severity: str
    subject: str
    message: str


def check(engine: Engine, blobs: BlobStore, *, deep: bool = False) -> list[Problem]:
    """Everything that is wrong or left over. `deep` reads and digests every blob."""
    with read(engine) as session:
        return [
            *_sqlite_checks(engine, session),
            *_names_stay_home(session),
            *_recorded_blobs(session, blobs, deep=deep),
            *_file_sizes(session),
            *_left_over(session, blobs),
        ]


def _sqlite_checks(engine: Engine, session: Session) -> Iterator[Problem]:
    if engine.dialect.name != "sqlite":
        return
    connection = session.connection()
    for (message,) in connection.exec_driver_sql("PRAGMA integrity_check"):
        if message != "ok":
            yield Problem("problem", "database file", str(message))
    for table, rowid, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield Problem("problem", f"{table} row {rowid}", f"refers to a row of {parent} that does not exist")


def _names_stay_home(session: Session) -> Iterator[Problem]:
    for table, kind in ((RefRow, "ref"), (AliasRow, "alias")):
        found = session.execute(
            select(table.name, RevisionRow.commit_id)
            .outerjoin(RevisionRow, RevisionRow.id == table.revision_id)
            .where(or_(RevisionRow.id.is_(None), RevisionRow.repo_id != table.repo_id))
        )
        for name, commit_id in found:
            yield Problem("problem", f"{kind} {name}", f"points to {commit_id or 'nothing'}, not a commit of its repo")


def _recorded_blobs(session: Session, blobs: BlobStore, *, deep: bool) -> Iterator[Problem]:
    """Bytes of blobs that a revision holds are needed; of others, they may be gone."""
    used = exists().where(FileRow.sha256 == BlobRow.sha256)
    for blob, needed in session.execute(select(BlobRow, used)):
        size = blobs.size(blob.sha256)
        if size is None:
            severity = "problem" if needed else "note"
            yield Problem(severity, f"blob {blob.sha256}", "is recorded, but its bytes are missing")
        elif size != blob.size:
            yield Problem("problem", f"blob {blob.sha256}", f"has {size} bytes, {blob.size} are recorded")
        elif deep and (found := _digest(blobs, blob.sha256)) != blob.sha256:
            yield Problem("problem", f"blob {blob.sha256}", f"its bytes have the sha256 {found}")


def _file_sizes(session: Session) -> Iterator[Problem]:
    found = session.execute(
        select(FileRow.path, FileRow.size, BlobRow.size, RevisionRow.commit_id)
        .join(BlobRow, BlobRow.sha256 == FileRow.sha256)
        .join(RevisionRow, RevisionRow.id == FileRow.revision_id)
        .where(FileRow.size != BlobRow.size)
    )
    for path, size, stored, commit_id in found:
        yield Problem("problem", f"file {path} of {commit_id}", f"is said to have {size} bytes, its blob has {stored}")


def _left_over(session: Session, blobs: BlobStore) -> Iterator[Problem]:
    recorded = set(session.scalars(select(BlobRow.sha256)))
    for blob in blobs.blobs():
        if blob.sha256 not in recorded:
            yield Problem("note", f"blob {blob.sha256}", f"{blob.size} bytes are stored that no row knows")
    for leftover in blobs.leftovers():
        yield Problem("note", f"leftover {leftover.name}", f"{leftover.size} bytes of an unfinished write")


def _digest(blobs: BlobStore, sha256: str) -> str:
    found = hashlib.sha256()
    for piece in blobs.iterate(sha256):
        found.update(piece)
    return found.hexdigest()
