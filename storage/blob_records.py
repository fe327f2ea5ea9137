"""Which blobs exist, who may use them, and which are no longer needed. The bytes are in `storage.blobs`.

Order of writing: bytes, then `record`, then the revision. Order of removing: rows, then bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import Engine, and_, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from storage import damage
from storage.accounts import Account
from storage.batches import batches
from storage.blobs.contract import BlobStore, StoredBlob, Sweep, sweep
from storage.clock import utc_now
from storage.database import write
from storage.errors import Swept
from storage.models import BlobRow, BlobUseRow, FileRow, RepoRow, RevisionRow, UpstreamFileRow
from storage.upsert import insert_missing

_SWEEPING = 7_264_201_937
"""Of PostgreSQL's advisory locks; any number that nobody else uses."""


def record(session: Session, account: Account, blobs: Iterable[StoredBlob], *, now: datetime | None = None) -> None:
    """Note that the account brought these bytes, which are in the blob store by now and right."""
    unique = _record(session, blobs, now or utc_now())
    insert_missing(session, BlobUseRow, [{"account_id": account.id, "sha256": b.sha256} for b in unique])


def require_bytes(session: Session, store: BlobStore, blobs: Iterable[StoredBlob]) -> None:
    """In the transaction that records the blobs: their bytes are in the store, and no sweep takes them meanwhile.

    Raises Swept where one did since they were put.
    """
    _lock(session, "shared")
    for blob in blobs:
        if store.size(blob.sha256) != blob.size:
            raise Swept(
                f"A sweep removed the bytes of {blob.sha256} before they were recorded.", remedy="Send them again."
            )


def record_cached(session: Session, blobs: Iterable[StoredBlob], *, now: datetime | None = None) -> None:
    """Note that these bytes are stored, without giving anybody a right to use them."""
    _record(session, blobs, now or utc_now())


def _record(session: Session, blobs: Iterable[StoredBlob], time: datetime) -> list[StoredBlob]:
    # sorted: two writers that lock the same rows in different orders would deadlock
    unique = sorted({blob.sha256: blob for blob in blobs}.values(), key=lambda blob: blob.sha256)
    insert_missing(
        session,
        BlobRow,
        [{"sha256": b.sha256, "size": b.size, "git_sha1": b.git_sha1, "created_at": time} for b in unique],
    )
    for batch in batches(blob.sha256 for blob in unique):  # a sweep goes by the latest upload
        session.execute(update(BlobRow).where(BlobRow.sha256.in_(batch)).values(created_at=time))
    damage.heal(session, (blob.sha256 for blob in unique))  # whatever was wrong was replaced by them
    return unique


def stored(session: Session, sha256s: Iterable[str]) -> dict[str, StoredBlob]:
    """Those of the digests that are recorded, whoever brought them."""
    found: dict[str, StoredBlob] = {}
    for batch in batches(sha256s):
        for row in session.scalars(select(BlobRow).where(BlobRow.sha256.in_(batch))):
            found[row.sha256] = StoredBlob(row.sha256, row.size, row.git_sha1)
    return found


def blobs_usable(
    session: Session, account: Account, sha256s: Iterable[str], *, readers: Collection[int] = ()
) -> dict[str, StoredBlob]:
    """Those of the digests that the account may put into a revision.

    It uploaded them, or they are in a live repo whose files it can read: its own, one of the accounts `readers` (by id,
    whose private repos the caller reads), or a public one that is not gated. Knowing a digest alone gives no right to
    the bytes.
    """
    uploaded = exists().where(BlobUseRow.sha256 == BlobRow.sha256, BlobUseRow.account_id == account.id)
    open_to_all = and_(RepoRow.visibility == "public", RepoRow.gated.is_(None))
    readable = (
        select(FileRow.sha256)
        .join(RevisionRow, RevisionRow.id == FileRow.revision_id)
        .join(RepoRow, RepoRow.id == RevisionRow.repo_id)
        .where(
            FileRow.sha256 == BlobRow.sha256,
            RepoRow.deleted_at.is_(None),
            or_(RepoRow.account_id.in_({account.id, *readers}), open_to_all),
        )
        .exists()
    )
    found: dict[str, StoredBlob] = {}
    for batch in batches(sha256s):
        for row in session.scalars(select(BlobRow).where(BlobRow.sha256.in_(batch), or_(uploaded, readable))):
            found[row.sha256] = StoredBlob(row.sha256, row.size, row.git_sha1)
    return found


def used_bytes(session: Session, account_id: int) -> int:
    """Bytes that the account has brought, each blob once."""
    query = (
        select(func.coalesce(func.sum(BlobRow.size), 0))
        .join(BlobUseRow, BlobUseRow.sha256 == BlobRow.sha256)
        .where(BlobUseRow.account_id == account_id)
    )
    return int(session.scalars(query).one())


def sweep_unused(
    engine: Engine, blobs: BlobStore, *, older_than: timedelta = timedelta(days=1), now: datetime | None = None
) -> Sweep:
    """Remove unfinished writes and blobs that no revision and no cache holds, if untouched for `older_than`."""
    time = now or utc_now()
    with write(engine) as session:
        in_use = exists().where(FileRow.sha256 == BlobRow.sha256)
        cached = exists().where(UpstreamFileRow.sha256 == BlobRow.sha256)
        session.execute(delete(BlobRow).where(~in_use, ~cached, BlobRow.created_at < time - older_than))
        keep = set(session.scalars(select(BlobRow.sha256)))

    @contextmanager
    def unneeded(sha256: str) -> Iterator[bool]:
        with write(engine) as session:
            _lock(session, "exclusive")
            yield session.get(BlobRow, sha256) is None

    return sweep(blobs, keep=keep, now=time, older_than=older_than, unneeded=unneeded)


def _lock(session: Session, kind: str) -> None:
    """Until the transaction ends, nobody sweeps beside those who record ("shared"), or records beside a sweep. SQLite
    has one writer at a time anyway."""
    if session.get_bind().dialect.name == "postgresql":
        function = {"shared": func.pg_advisory_xact_lock_shared, "exclusive": func.pg_advisory_xact_lock}[kind]
        session.execute(select(function(_SWEEPING)))


def every(session: Session) -> list[tuple[StoredBlob, bool]]:
    """All recorded blobs by their digest, each with whether a revision holds it."""
    held = exists().where(FileRow.sha256 == BlobRow.sha256)
    query = select(BlobRow.sha256, BlobRow.size, BlobRow.git_sha1, held).order_by(BlobRow.sha256)
    return [(StoredBlob(sha256, size, sha1), bool(needed)) for sha256, size, sha1, needed in session.execute(query)]
