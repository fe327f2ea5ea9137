"""Alembic's entry point. The caller brings a connection or an engine; no ini file and no environment is read here."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, Engine

from storage.models import Record


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Record.metadata,
        render_as_batch=connection.dialect.name == "sqlite",  # SQLite changes a table by rebuilding it
    )
    with context.begin_transaction():
        context.run_migrations()


given: object = context.config.attributes.get("connection")
if isinstance(given, Engine):
    with given.connect() as opened:
        run(opened)
        opened.commit()
elif isinstance(given, Connection):
    run(given)
else:
    raise RuntimeError("run migrations through `mixhub db upgrade`, which brings the connection")
