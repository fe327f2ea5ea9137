"""Which blobs were found damaged: their bytes are asked for again by every upload, until they are put again.

What was damaged once is remembered after it was healed: a client may hold the beginning of the wrong bytes and ask for
the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from storage.batches import batches
from storage.clock import utc_now
from storage.database import read, write
from storage.errors import DamagedBlob, StorageError
from storage.models import BlobDamageRow, BlobRow

_log = logging.getLogger("mixhub")


def report(engine: Engine, error: DamagedBlob) -> None:
    """Note what a read has found, and say so in one line of the log, once. Raises nothing: the read fails anyway."""
    try:
        with read(engine) as session:
            if found(session, [error.sha256]):
                return
        with write(engine) as session:
            new = mark(session, error)
        if new:
            _log.error("blob %s is damaged: %s; mixhub db check --deep --repair", error.sha256, error.reason)
    except (SQLAlchemyError, StorageError) as failure:  # a full disk, a home that is only read
        _log.error("blob %s is damaged: %s; it could not be marked: %s", error.sha256, error.reason, failure)


def mark(session: Session, error: DamagedBlob, *, now: datetime | None = None) -> bool:
    """Note the damage of a recorded blob. False: it is noted already, or no such blob is recorded (any more)."""
    blob = select(BlobRow.sha256).where(BlobRow.sha256 == error.sha256).with_for_update(read=True)
    if session.scalar(blob) is None:
        return False
    row = session.get(BlobDamageRow, error.sha256)
    if row is not None and row.healed_at is None:
        return False
    if row is None:
        row = BlobDamageRow(sha256=error.sha256)
        session.add(row)
    row.reason, row.found_at, row.healed_at = error.reason[:200], now or utc_now(), None
    return True


def heal(session: Session, sha256s: Iterable[str], *, now: datetime | None = None) -> None:
    """These bytes were put again, or were found to be sound."""
    time = now or utc_now()
    for batch in batches(sha256s):
        session.execute(
            update(BlobDamageRow)
            .where(BlobDamageRow.sha256.in_(batch), BlobDamageRow.healed_at.is_(None))
            .values(healed_at=time)
        )


def found(session: Session, sha256s: Iterable[str]) -> dict[str, str]:
    """Those of the blobs that are damaged as far as is known, and what is wrong with each."""
    rows: dict[str, str] = {}
    for batch in batches(sha256s):
        query = select(BlobDamageRow.sha256, BlobDamageRow.reason).where(
            BlobDamageRow.sha256.in_(batch), BlobDamageRow.healed_at.is_(None)
        )
        rows.update((sha256, reason) for sha256, reason in session.execute(query))
    return rows


def unhealed(session: Session) -> dict[str, int]:
    """Every blob that is damaged as far as is known -> the bytes that it should have."""
    query = select(BlobRow.sha256, BlobRow.size).join(BlobDamageRow, BlobDamageRow.sha256 == BlobRow.sha256)
    return {row.sha256: row.size for row in session.execute(query.where(BlobDamageRow.healed_at.is_(None)))}


def ever(session: Session, sha256: str) -> bool:
    """Whether wrong bytes may have gone out under this digest."""
    return session.get(BlobDamageRow, sha256) is not None
