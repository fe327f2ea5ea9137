"""Bringing a database to the schema of this program. Shipped with the package; callable from code.

`upgrade` runs at every opening of a home, so an up-to-date database costs two short queries and no import of alembic.
Two processes may upgrade one fresh home at once: the schema changes in one transaction behind a lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from storage.errors import SchemaOutdated

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["HEAD", "check", "current", "downgrade", "upgrade"]

HEAD = "0007"
"""The newest migration in `migrations/versions/`; a test keeps it true."""

_LOCK_KEY = 7_264_201_936  # of PostgreSQL's advisory lock; any number that nobody else uses
_REMEDY = "Run `mixhub db upgrade`."


def current(engine: Engine) -> str | None:
    """The migration that the database is at; None: an empty database."""
    with engine.execution_options(readonly=True).connect() as connection:
        return _current(connection)


def upgrade(engine: Engine) -> None:
    """Bring the database to `HEAD`. Raises SchemaOutdated where a newer program has been here before."""
    if current(engine) == HEAD:
        return
    with engine.begin() as connection:  # SQLite: BEGIN IMMEDIATE, so a second process waits here
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        found = _current(connection)
        if found != HEAD:
            _alembic_upgrade(connection, found)


def downgrade(engine: Engine, revision: str) -> None:
    """Go back to `revision` ("base": drop every table). Loses data; only for development and tests."""
    from alembic import command

    with engine.begin() as connection:
        command.downgrade(_config(connection), revision)


def check(engine: Engine) -> None:
    """Raise SchemaOutdated unless the database is at `HEAD` and its tables are those of the models."""
    found = current(engine)
    if found != HEAD:
        raise SchemaOutdated(f"The database is at schema {found or 'nothing'}, expected {HEAD}.", remedy=_REMEDY)

    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from storage.models import Record

    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Record.metadata)
    if differences:
        listed = "; ".join(_in_words(difference) for difference in differences)
        raise SchemaOutdated(
            f"The database is at schema {HEAD} but differs from it: {listed}.",
            remedy="It was changed by hand: undo that, or restore a backup.",
        )


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _alembic_upgrade(connection: Connection, found: str | None) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaOutdated(
            f"The database is at schema {found}, which this program does not know; it knows {HEAD}.",
            remedy="Upgrade mixhub: a newer one has written this database.",
        )
    command.upgrade(config, "head")


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _in_words(difference: object) -> str:
    """One entry of alembic's list, such as ('remove_table', Table(...)) or [('modify_type', None, 'repo', ...)]."""
    entry = difference[0] if isinstance(difference, list) else difference
    parts = entry if isinstance(entry, tuple) else (entry,)
    names = (getattr(part, "name", part) for part in parts[:4])
    return " ".join(str(name) for name in names if isinstance(name, str))
