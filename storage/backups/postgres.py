"""Dumps of a PostgreSQL database, by PostgreSQL's own programs, which must be of the server's release."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, inspect

from storage.errors import BadBackup, StorageError

NAME = "mixhub.pgdump"
PLACES = Path("/usr/lib/postgresql")
"""Where distributions keep the programs of each release apart."""


def dump(connection: Connection, target: Path) -> None:
    """The whole database, as the open transaction of `connection` (REPEATABLE READ) sees it, into an empty file."""
    program = _program("pg_dump", connection.engine)
    snapshot = str(connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())
    with _address(connection.engine.url) as address:
        _run(
            [program, "--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}",
             f"--file={target}", f"--dbname={address}"]
        )  # fmt: skip


def load(engine: Engine, source: Path) -> None:
    """Fill an empty database from a dump: all of it, or nothing."""
    program = _program("pg_restore", engine)
    with _address(engine.url) as address:
        _run(
            [program, "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction",
             f"--dbname={address}", str(source)]
        )  # fmt: skip


def check(engine: Engine, source: Path) -> None:
    """Raises BadBackup for a dump that pg_restore cannot read to its end."""
    _run([_program("pg_restore", engine), "--file=/dev/null", str(source)])


def is_empty(engine: Engine) -> bool:
    with engine.connect() as connection:
        return not inspect(connection).get_table_names()


def _program(name: str, engine: Engine) -> str:
    """The path of a program of the server's major release; else one on the PATH that is newer."""
    with engine.connect() as connection:
        major = int(str(connection.exec_driver_sql("SHOW server_version_num").scalar_one())) // 10_000
    places = [shutil.which(name), *map(str, PLACES.glob(f"{major}/bin/{name}"))]
    found = {place: _major(place) for place in places if place}
    for fitting in ([major], sorted(set(found.values()) - set(range(major)))):
        for place, release in found.items():
            if release in fitting:
                return place
    there = f"found is that of {', '.join(map(str, found.values()))}" if found else "there is none"
    raise StorageError(
        f"{name} of PostgreSQL {major}, the server's release, is needed; {there}.",
        remedy=f"Install it (Debian: postgresql-client-{major}) and put its folder on the PATH.",
    )


def _major(program: str) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    release = re.search(r"(\d+)", said)
    return int(release.group(1)) if release else 0


@contextmanager
def _address(url: URL) -> Iterator[str]:
    """As the programs take it. A password goes by a file: others see the words of a command."""
    plain = url.set(drivername="postgresql", password=None)
    if not url.password:
        yield plain.render_as_string()
        return
    with tempfile.NamedTemporaryFile("w", prefix="mixhub-", suffix=".pgpass") as file:  # only its owner reads it
        password = str(url.password).replace("\\", "\\\\").replace(":", "\\:")
        file.write(f"*:*:*:*:{password}\n")
        file.flush()
        yield plain.update_query_dict({"passfile": file.name}).render_as_string()


def _run(words: Sequence[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error:" in line), done.stderr.strip())
        raise BadBackup(f"{Path(words[0]).name} failed: {said}", remedy="See what it says, and try again.")
