"""Keys that the server signs with. In the database, so that all processes of one hub share them."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.models import ServerKeyRow
from storage.upsert import insert_missing


def key(session: Session, purpose: str) -> bytes:
    """The 32 bytes for this purpose, drawn on first use (which needs a session that writes)."""
    query = select(ServerKeyRow.secret).where(ServerKeyRow.purpose == purpose)
    if session.scalar(query) is None:
        insert_missing(session, ServerKeyRow, [{"purpose": purpose, "secret": secrets.token_hex(32)}])
    return bytes.fromhex(session.scalars(query).one())
