"""An opened home: the database, the blobs and the account that acts. Everything an action needs, and nothing global."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

import migrations
from hub import half_home
from hub.settings import Settings
from storage import accounts, damage
from storage.blobs import BlobStore, open_blobs
from storage.cannot_store import told
from storage.database import open_database, read, write
from storage.errors import DatabaseLost, SchemaOutdated


@dataclass(frozen=True)
class Home:
    directory: Path
    """For files that are only this machine's: checkouts of revisions, which are links to blobs."""
    engine: Engine
    blobs: BlobStore
    account: str = accounts.LOCAL
    """The account that acts and that owns what is published: `local` without a server."""

    def read(self) -> AbstractContextManager[Session]:
        """A session that sees one snapshot."""
        return read(self.engine)

    def write(self) -> AbstractContextManager[Session]:
        """A session that commits at the end of the block, or not at all."""
        return write(self.engine)


@contextmanager
def open_home(settings: Settings) -> Iterator[Home]:
    """Open the home of `settings`; an empty one is set up. `SchemaOutdated` if it was made by another release."""
    with opened_database(settings) as engine:
        found = migrations.current(engine)
        if found not in (None, migrations.HEAD):
            raise SchemaOutdated(
                f"this home is at schema {found}, this program needs {migrations.HEAD}", remedy="mixhub db upgrade"
            )
        home = home_of(settings, engine)
        if found is None:
            set_up(home)
        yield home


def home_of(settings: Settings, engine: Engine) -> Home:
    """The home of `settings` over an open database; nothing is read or written yet."""
    return Home(settings.directory, engine, open_blobs(settings.blobs, lambda error: damage.report(engine, error)))


def set_up(home: Home) -> None:
    """Tables and the local account; safe when several processes do it at once. Writes only what is missing."""
    migrations.upgrade(home.engine)
    with home.write() as session:
        accounts.ensure(session)


@contextmanager
def opened_database(settings: Settings, *, on_lost: Callable[[DatabaseLost], None] | None = None) -> Iterator[Engine]:
    """The home's database, closed again at the end of the block. Makes the home's folder, for its owner only.

    `on_lost` is called once where others replaced or deleted its files.
    """
    _make(settings.directory)
    half_home.refuse(settings.directory)
    engine = open_database(settings.database, on_lost=on_lost)
    try:
        yield engine
    finally:
        engine.dispose()


@told
def _make(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
