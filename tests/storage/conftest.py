"""A fresh, migrated database per test and dialect, and factories for rows.

Databases are copies of a template that was migrated once: a file copy on SQLite, CREATE DATABASE ... TEMPLATE on
PostgreSQL.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

import migrations
from storage import accounts, blob_records, open_database, repos, revisions
from storage.blobs import StoredBlob
from storage.repos import Repo
from storage.revisions import File, Revision

_numbers = itertools.count()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "mixhub.sqlite"
    engine = open_database(f"sqlite:///{path}")
    migrations.upgrade(engine)
    engine.dispose()  # closing the last connection writes the log back into the file
    return path


@pytest.fixture(scope="session")
def postgres_admin(postgres_url: str) -> Iterator[Engine]:
    """Outside any transaction, as CREATE DATABASE wants it. Holds a migrated database `template_mixhub`."""
    engine = open_database(postgres_url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
        connection.execute(text("CREATE DATABASE template_mixhub"))
    template = open_database(postgres_url.replace("/postgres?", "/template_mixhub?"))
    migrations.upgrade(template)
    template.dispose()
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        path = tmp_path / "mixhub.sqlite"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    admin: Engine = request.getfixturevalue("postgres_admin")
    name = f"test_{next(_numbers)}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template_mixhub"))
    yield request.getfixturevalue("postgres_url").replace("/postgres?", f"/{name}?")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def shared_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One empty database for all tests that never commit. With several workers it may be set up more than once."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("shared") / "mixhub.sqlite"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        url = f"sqlite:///{path}"
    else:
        name = f"shared_{next(_numbers)}"
        with request.getfixturevalue("postgres_admin").connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template_mixhub"))
        url = request.getfixturevalue("postgres_url").replace("/postgres?", f"/{name}?")
    engine = open_database(url)
    yield engine
    engine.dispose()


@pytest.fixture
def session(shared_engine: Engine) -> Iterator[Session]:
    """A writer whose work is thrown away: for tests of what happens inside one transaction."""
    with Session(shared_engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
def make_repo() -> Callable[..., Repo]:
    def make(session: Session, name: str = "adapter", *, account: str = "local", **options: str) -> Repo:
        accounts.ensure(session, account)
        return repos.create(session, account, name, **options)

    return make


@pytest.fixture
def make_file() -> Callable[..., File]:
    """A file whose blob is recorded (no bytes are stored)."""

    def make(session: Session, path: str = "a.bin", content: bytes = b"content", *, account: str = "local") -> File:
        sha1 = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        blob = StoredBlob(hashlib.sha256(content).hexdigest(), len(content), sha1)
        blob_records.record(session, accounts.ensure(session, account), [blob])
        return File(path, blob.size, blob.sha256, blob.git_sha1)

    return make


@pytest.fixture
def commit(make_file: Callable[..., File]) -> Callable[..., Revision]:
    """A revision of one file on top of main."""

    def make(session: Session, repo: Repo, content: bytes = b"content") -> Revision:
        log = [ref.commit_id for ref in revisions.refs.every(session, repo) if ref.name == "main"]
        return revisions.create_revision(
            session, repo, [make_file(session, content=content)], parent=log[0] if log else None, author="ann",
            title="a change",
        ).revision  # fmt: skip

    return make
