"""The cache of another hub's public repos: what its revisions hold, and which files are kept here.

Revisions are for ever; what a branch or tag names is as it was last seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from storage import blob_records, names
from storage.blobs import StoredBlob
from storage.clock import utc_now
from storage.models import BlobRow, UpstreamFileRow, UpstreamRefRow, UpstreamRevisionRow
from storage.revisions import File
from storage.upsert import insert_missing


@dataclass(frozen=True)
class UpstreamRevision:
    """`files` have the digest that the upstream lists them by: `sha256` of an lfs file, else only `git_sha1`."""

    full_name: str
    commit_id: str
    files: tuple[File, ...]
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    revision: UpstreamRevision
    at: datetime


def digest_of(file: File) -> str:
    return file.sha256 or file.git_sha1


def record(session: Session, revision: UpstreamRevision, *, name: str | None, now: datetime | None = None) -> None:
    """Keep what a revision holds, and that `name` (a branch or tag; None: nobody said one) names it now."""
    key = names.key(revision.full_name)
    files = [[file.path, file.size, file.upload_mode, digest_of(file)] for file in revision.files]
    info = {**revision.info, "id": revision.full_name}
    row = {"repo_key": key, "commit_id": revision.commit_id, "info": info, "files": files}
    insert_missing(session, UpstreamRevisionRow, [row])
    if name is None:
        return
    found = session.scalars(
        select(UpstreamRevisionRow.id).where(
            UpstreamRevisionRow.repo_key == key, UpstreamRevisionRow.commit_id == revision.commit_id
        )
    ).one()
    session.execute(delete(UpstreamRefRow).where(UpstreamRefRow.repo_key == key, UpstreamRefRow.name == name))
    ref = {"repo_key": key, "name": name, "revision_id": found, "seen_at": now or utc_now()}
    insert_missing(session, UpstreamRefRow, [ref])


def at_commit(session: Session, full_name: str, commit_id: str) -> UpstreamRevision | None:
    row = session.scalar(
        select(UpstreamRevisionRow).where(
            UpstreamRevisionRow.repo_key == names.key(full_name), UpstreamRevisionRow.commit_id == commit_id
        )
    )
    return _revision(row) if row else None


def last_seen(session: Session, full_name: str, name: str) -> Seen | None:
    """What a branch or tag named when the upstream was last asked."""
    found = session.execute(
        select(UpstreamRevisionRow, UpstreamRefRow.seen_at)
        .join(UpstreamRefRow, UpstreamRefRow.revision_id == UpstreamRevisionRow.id)
        .where(UpstreamRefRow.repo_key == names.key(full_name), UpstreamRefRow.name == name)
    ).one_or_none()
    return Seen(_revision(found[0]), found[1]) if found else None


def kept(session: Session, full_name: str, file: File) -> str | None:
    """The sha256 of the blob with this repo's file, if it was fetched before."""
    return session.scalar(
        select(UpstreamFileRow.sha256).where(
            UpstreamFileRow.repo_key == names.key(full_name), UpstreamFileRow.digest == digest_of(file)
        )
    )


def origins(session: Session, sha256: str) -> list[tuple[UpstreamRevision, File]]:
    """Files of upstream repos that are kept as this blob."""
    kept_as = select(UpstreamFileRow.repo_key, UpstreamFileRow.digest).where(UpstreamFileRow.sha256 == sha256)
    found: list[tuple[UpstreamRevision, File]] = []
    for repo_key, digest in session.execute(kept_as).all():
        for row in session.scalars(select(UpstreamRevisionRow).where(UpstreamRevisionRow.repo_key == repo_key)):
            revision = _revision(row)
            found += [(revision, file) for file in revision.files if digest_of(file) == digest][:1]
    return found


def keep(session: Session, full_name: str, file: File, blob: StoredBlob) -> None:
    """Note that the bytes of this repo's file are stored."""
    blob_records.record_cached(session, [blob])
    row = {"repo_key": names.key(full_name), "digest": digest_of(file), "sha256": blob.sha256}
    insert_missing(session, UpstreamFileRow, [row])


def kept_bytes(session: Session) -> int:
    """Bytes of all files that are kept, each blob once."""
    held = select(UpstreamFileRow.sha256).distinct()
    query = select(func.coalesce(func.sum(BlobRow.size), 0)).where(BlobRow.sha256.in_(held))
    return int(session.scalars(query).one())


def forget(session: Session) -> int:
    """Empty the cache; the bytes go with the next sweep. Returns how many files were kept."""
    gone = session.scalar(select(func.count()).select_from(UpstreamFileRow)) or 0
    for table in (UpstreamFileRow, UpstreamRefRow, UpstreamRevisionRow):
        session.execute(delete(table))
    return gone


def _revision(row: UpstreamRevisionRow) -> UpstreamRevision:
    return UpstreamRevision(row.info["id"], row.commit_id, tuple(_file(*one) for one in row.files), row.info)


def _file(path: str, size: int, mode: str, digest: str) -> File:
    large = mode == "lfs"
    return File(path, size, digest if large else "", "" if large else digest, mode)
