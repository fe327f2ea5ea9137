"""How far the scrub of the blobs has come, so that it goes on there after a restart. It goes by their sha256.

Two servers on one database share the position; then some blobs are read twice in a round.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.models import BlobRow, BlobScrubRow


@dataclass(frozen=True)
class Position:
    after: str
    """The sha256 that was begun last; empty: none, the round is over."""
    round_began_at: datetime


def read(session: Session) -> Position | None:
    """None: there never was a round."""
    row = session.get(BlobScrubRow, 1)
    return Position(row.position, row.round_began_at) if row else None


def save(session: Session, position: Position) -> None:
    session.merge(BlobScrubRow(id=1, position=position.after, round_began_at=position.round_began_at))


def following(session: Session, after: str, *, limit: int) -> list[tuple[str, int]]:
    """(sha256, bytes) of the next blobs. Empty: that was the last one."""
    query = select(BlobRow.sha256, BlobRow.size).where(BlobRow.sha256 > after).order_by(BlobRow.sha256).limit(limit)
    return [(sha256, size) for sha256, size in session.execute(query)]
