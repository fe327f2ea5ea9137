"""Is a home consistent? Problems mean lost or wrong data; notes are things that the next sweep removes.

Looks at data only; whether the schema is right is `migrations.check`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, exists, or_, select
from sqlalchemy.orm import Session

from storage import damage
from storage.blobs.contract import BlobStore
from storage.database import read, write
from storage.errors import DamagedBlob
from storage.models import AccountRow, AliasRow, BlobRow, FileRow, RefRow, RepoRow, RevisionRow, UpstreamFileRow


@dataclass(frozen=True)
class Problem:
    """One finding. `severity` is "problem" or "note"; `subject` is the blob, file, ref ... that it is about."""

    severity: str
    subject: str
    message: str


def check(engine: Engine, blobs: BlobStore, *, deep: bool = False) -> list[Problem]:
    """Everything that is wrong or left over. `deep` reads and digests every blob; damage that is over is noted so."""
    with read(engine) as session:
        found = [*_sqlite_checks(engine, session), *_names_stay_home(session), *_file_sizes(session)]
        recorded = _recorded(session)
    found += _damaged_blobs(engine, blobs, recorded, deep=deep)  # outside: it may take hours
    with read(engine) as session:
        return [*found, *_left_over(session, blobs)]


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


@dataclass(frozen=True)
class _Recorded:
    sha256: str
    size: int
    needed: bool
    """A revision or the cache of an upstream holds it; of other blobs the bytes may be gone."""


def _recorded(session: Session) -> list[_Recorded]:
    held = exists().where(FileRow.sha256 == BlobRow.sha256) | exists().where(UpstreamFileRow.sha256 == BlobRow.sha256)
    return [_Recorded(*row) for row in session.execute(select(BlobRow.sha256, BlobRow.size, held))]


def _damaged_blobs(
    engine: Engine, blobs: BlobStore, recorded: Sequence[_Recorded], *, deep: bool
) -> Iterator[Problem]:  # fmt: skip
    with read(engine) as session:
        known = damage.found(session, (blob.sha256 for blob in recorded))
    for blob in recorded:
        wrong = _wrong(blobs, blob, deep=deep)
        if wrong is None and deep and blob.sha256 in known:
            with write(engine) as session:
                damage.heal(session, [blob.sha256])
        elif wrong is None:
            wrong = known.get(blob.sha256)
        if wrong is not None:
            with read(engine) as session:
                where = _where(session, blob.sha256)
            yield Problem("problem" if blob.needed else "note", f"blob {blob.sha256}", wrong + where)


def _wrong(blobs: BlobStore, blob: _Recorded, *, deep: bool) -> str | None:
    try:
        if deep:
            blobs.verify(blob.sha256, size=blob.size)
        else:
            blobs.expect(blob.sha256, blob.size)
    except DamagedBlob as error:
        return error.reason
    return None


def _where(session: Session, sha256: str) -> str:
    """One file with these bytes, in words."""
    found = session.execute(
        select(AccountRow.name, RepoRow.name, RevisionRow.commit_id, FileRow.path)
        .join(RepoRow, RepoRow.account_id == AccountRow.id)
        .join(RevisionRow, RevisionRow.repo_id == RepoRow.id)
        .join(FileRow, FileRow.revision_id == RevisionRow.id)
        .where(FileRow.sha256 == sha256)
        .order_by(RevisionRow.id.desc())
        .limit(1)
    ).one_or_none()
    return f" ({found[3]} of {found[0]}/{found[1]}@{found[2][:12]})" if found else ""


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
