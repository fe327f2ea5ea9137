"""INSERT ... ON CONFLICT DO NOTHING, which SQLAlchemy spells differently for each database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from storage.models import Record


def insert_missing(session: Session, table: type[Record], rows: Sequence[Mapping[str, object]]) -> None:
    """Insert the rows whose keys are not there yet. A row that another transaction inserts now is waited for."""
    if not rows:
        return
    on_postgresql = session.get_bind().dialect.name == "postgresql"
    insert = postgresql.insert if on_postgresql else sqlite.insert
    session.execute(insert(table).on_conflict_do_nothing(), [dict(row) for row in rows])
