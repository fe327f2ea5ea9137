"""From an empty database to the models' schema and back, on both databases, also when two processes do it at once."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

import migrations
from storage import accounts, open_database, read
from storage.clock import utc_now
from storage.errors import SchemaOutdated
from storage.models import Record

_numbers = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'mixhub.sqlite'}"
        return
    url: str = request.getfixturevalue("postgres_url")
    name = f"migrations_{next(_numbers)}"
    admin = open_database(url).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url.replace("/postgres?", f"/{name}?")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def empty(empty_url: str) -> Iterator[Engine]:
    engine = open_database(empty_url)
    yield engine
    engine.dispose()


def test_an_empty_database_becomes_the_schema_of_the_models(empty: Engine) -> None:
    assert migrations.current(empty) is None
    migrations.upgrade(empty)
    migrations.check(empty)


def test_every_constraint_and_index_of_the_models_exists_by_name(empty: Engine) -> None:
    """Alembic compares no check constraints and no partial index conditions, so a second database is made directly."""
    migrations.upgrade(empty)
    by_migration = _names(empty)
    migrations.downgrade(empty, "base")
    Record.metadata.create_all(empty)
    assert by_migration == _names(empty)


def test_upgrading_twice_changes_nothing_and_the_second_time_needs_no_alembic(empty: Engine) -> None:
    migrations.upgrade(empty)
    started = time.perf_counter()
    migrations.upgrade(empty)
    assert time.perf_counter() - started < 0.1
    migrations.check(empty)


def test_opening_a_home_that_is_up_to_date_does_not_import_alembic(tmp_path: Path) -> None:
    script = (
        "import sys, migrations; from storage import open_database; engine = open_database(sys.argv[1]); "
        "migrations.upgrade(engine); engine.dispose(); print('alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", script, f"sqlite:///{tmp_path / 'mixhub.sqlite'}"]
    outputs = [subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip() for _ in range(2)]
    assert outputs == ["True", "False"]


def test_processes_that_upgrade_one_fresh_home_at_once_all_succeed(empty_url: str, empty: Engine) -> None:
    script = (
        "import sys, migrations; from storage import open_database; engine = open_database(sys.argv[1]); "
        "sys.stdin.read(); migrations.upgrade(engine); migrations.check(engine); engine.dispose()"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, empty_url], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    time.sleep(0.5)
    for process in processes:  # all wait for the end of their input: now they start together
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    errors = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    migrations.check(empty)


def test_going_back_to_nothing_leaves_no_table_and_no_function(empty: Engine) -> None:
    migrations.upgrade(empty)
    migrations.downgrade(empty, "base")
    assert set(inspect(empty).get_table_names()) <= {"alembic_version"}
    migrations.upgrade(empty)  # would fail if a function or trigger were left
    migrations.check(empty)


def test_a_failing_upgrade_leaves_nothing_behind(empty: Engine) -> None:
    with empty.begin() as connection:
        connection.execute(text("CREATE TABLE trial (x INTEGER)"))  # in the way of the last table
    with pytest.raises(Exception, match="trial"):
        migrations.upgrade(empty)
    assert inspect(empty).get_table_names() == ["trial"]


def test_a_database_of_a_newer_program_is_refused(empty: Engine) -> None:
    migrations.upgrade(empty)
    with empty.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaOutdated, match="9999"):
        migrations.upgrade(empty)
    with pytest.raises(SchemaOutdated, match="9999") as caught:
        migrations.check(empty)
    assert "mixhub db upgrade" in caught.value.remedy


def test_an_empty_database_is_said_to_need_the_upgrade(empty: Engine) -> None:
    with pytest.raises(SchemaOutdated, match="nothing"):
        migrations.check(empty)


def test_a_database_changed_by_hand_is_found_and_the_change_is_named(empty: Engine) -> None:
    migrations.upgrade(empty)
    with empty.begin() as connection:
        connection.execute(text("ALTER TABLE repo ADD COLUMN surprise INTEGER"))
        connection.execute(text("DROP TABLE trial"))
    with pytest.raises(SchemaOutdated, match=r"trial[\s\S]*surprise|surprise[\s\S]*trial"):
        migrations.check(empty)


def test_a_home_of_the_first_release_keeps_its_rows(empty: Engine) -> None:
    """0002 adds columns to tables that have rows by then."""
    migrations.upgrade(empty)
    migrations.downgrade(empty, "0001")
    with empty.begin() as connection:
        connection.execute(
            text("INSERT INTO account (name, name_key, kind, created_at) VALUES ('Ann', 'ann', 'user', :now)"),
            {"now": utc_now().isoformat(sep=" ")},
        )
    migrations.upgrade(empty)
    migrations.check(empty)
    with read(empty) as session:
        account = accounts.find(session, "ann")
    assert (account.name, account.is_admin) == ("Ann", False)


def test_head_is_the_newest_migration_and_there_is_one_line_of_them() -> None:
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert script.get_heads() == [migrations.HEAD]


def _names(engine: Engine) -> set[tuple[str, str, str]]:
    """(table, kind, definition) of everything that restricts a table."""
    inspector = inspect(engine)
    found: set[tuple[str, str, str]] = set()
    for table in inspector.get_table_names():
        if table == "alembic_version":
            continue
        found |= {(table, "check", f"{c['name']} {c['sqltext']}") for c in inspector.get_check_constraints(table)}
        found |= {
            (table, "unique", f"{c['name']} {c['column_names']}") for c in inspector.get_unique_constraints(table)
        }
        found |= {
            (table, "foreign", f"{c['name']} {c['constrained_columns']} {c['referred_columns']} {c['options']}")
            for c in inspector.get_foreign_keys(table)
        }
        for index in inspector.get_indexes(table):
            options = {key: str(value) for key, value in index["dialect_options"].items()}
            found.add((table, "index", f"{index['name']} {index['column_names']} {index['unique']} {options}"))
        found.add((table, "primary", str(inspector.get_pk_constraint(table))))
    return found
