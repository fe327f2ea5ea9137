"""The arrows between the packages: hub -> compose, hub -> storage, migrations -> storage, and no others."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "compose": set(),
    "storage": set(),
    "migrations": {"storage"},
    "hub": {"compose", "storage", "migrations"},
}
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, wherever it stands; relative ones are within the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module or ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_packages_that_its_own_may_know(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    forbidden = MAY_IMPORT.keys() - MAY_IMPORT[package] - {package}
    wrong = [f"line {line}: {name}" for line, name in imported(path) if name.partition(".")[0] in forbidden]
    assert wrong == []


def test_only_the_named_files_import_nevergrad_and_read_the_environment() -> None:
    names = {path.name for path in FILES for _, name in imported(path) if name.partition(".")[0] == "nevergrad"}
    assert names == {"nevergrad_search.py"}
    readers = {path.relative_to(ROOT).as_posix() for path in FILES if ".environ" in path.read_text(encoding="utf-8")}
    assert readers <= {"hub/cli/main.py", "hub/settings.py", "storage/blobs/s3.py"}


def test_only_sqlite_opens_the_files_of_a_database() -> None:
    """Closing them would drop SQLite's locks in the whole process; storage/database_file.py says what is lost then.

    So whoever might open them must not know where they are: few files import the driver, one says the file's name, one
    hands it on. What these do, and everybody else, is watched while the tests run (tests/conftest.py).
    """
    drivers = {
        f"storage/{name}.py"
        for name in (
            *("database", "database_file", "sqlite_connection", "closing", "sqlite_connect"),
            "cannot_store",  # the numbers of SQLite's errors
            "backups/sqlite",  # SQLite's own copying
        )
    } | {"hub/actions/backup.py"}  # the name of SQLite's error
    sources = {path: path.read_text(encoding="utf-8") for path in FILES}
    named = {path: ast.parse(source) for path, source in sources.items() if "sqlite" in source or "database" in source}
    trees = {path.relative_to(ROOT).as_posix(): tree for path, tree in named.items()}
    assert {
        path.relative_to(ROOT).as_posix() for path in named for _, name in imported(path) if name == "sqlite3"
    } == drivers
    assert {name for name, tree in trees.items() if any("mixhub.sqlite" in text for text in texts(tree))} == {
        "hub/settings.py",
        "hub/actions/backup.py",  # the copy's name
    }
    assert {name for name, tree in trees.items() if {"database", "database_url"} & attributes(tree)} == {
        "hub/home.py",  # opens it
        "hub/settings.py",
        "hub/actions/backup.py",  # whether there is one
        "hub/actions/restore.py",  # where it will be
        "storage/database.py",  # the attribute of a URL
        "storage/backups/postgres.py",
    }
    opening = {
        "open",
        "read_bytes",
        "read_text",
        "write_bytes",
        "write_text",
        "copy",
        "copyfile",
        "copytree",
        "replace",
    }
    for name in drivers:
        called = {node.func for node in ast.walk(trees[name]) if isinstance(node, ast.Call)}
        found = {ast.unparse(function) for function in called} & {
            f"{m}{n}" for n in opening for m in ("", "os.", "shutil.")
        }
        assert found == ({"os.open"} if name.endswith("database_file.py") else set()), name


def texts(tree: ast.AST) -> Iterator[str]:
    """Every text in the code, without docstrings and other texts that stand alone."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def attributes(tree: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_only_its_command_knows_what_reproduces_tables_and_only_once_it_runs() -> None:
    users = {path.relative_to(ROOT) for path in FILES for _, name in imported(path) if name.startswith("hub.reproduce")}
    assert {path for path in users if path.parent != Path("hub/reproduce")} == {Path("hub/cli/reproduce.py")}


def test_the_demo_ships_its_run_and_its_data_and_no_training() -> None:
    assert {path.name for path in (ROOT / "hub" / "demo").rglob("*.py")} == {"__init__.py", "run.py"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        (
            "from compose import load_adapter, merge, search",
            "sqlalchemy fastapi alembic hub storage",
        ),
        ("from compose.errors import ComposeError", "torch transformers sqlalchemy"),
        ("from hub.client import Hub", "torch transformers fastapi nevergrad"),
        ("import hub.cli.main", "typer rich sqlalchemy numpy"),  # in its first moment it cannot say "interrupted"
        ("from hub.cli.commands import app_for; app_for('ls')", "hub.client hub.actions.search numpy boto3"),
        ("from hub.cli.commands import app_for; app_for()", "torch transformers fastapi nevergrad hub.reproduce"),
        ("import hub.local_hub, hub.remote.hub", "torch transformers fastapi nevergrad huggingface_hub"),
        ("import storage, storage.revisions, storage.blobs", "torch compose hub fastapi"),
    ],
)
def test_importing_does_not_load_what_is_not_needed(statement: str, absent: str) -> None:
    code = f"{statement}\nimport sys\nprint(*[name for name in {absent.split()} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.split() == []
