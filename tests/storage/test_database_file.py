"""A SQLite file that other programs meddle with, and closing it beside others."""

from __future__ import annotations

import ctypes
import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import Engine, text

from storage import database_file, open_database, read, write
from storage.errors import DatabaseBusy, DatabaseLost

OTHER = """
import os, sys
from sqlalchemy import text
from storage import open_database, write

engine = open_database(f"sqlite:///{sys.argv[1]}")
with write(engine) as session:
    session.execute(text("INSERT INTO note VALUES (:words)"), {"words": sys.argv[2]})
print("written", flush=True)
if sys.argv[3] == "waits":
    sys.stdin.read()
if sys.argv[3] != "never closes":
    engine.dispose()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.sqlite"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{path}")
    with write(engine) as session:
        session.execute(text("CREATE TABLE note (words TEXT)"))
    yield engine
    engine.dispose()


def note(engine: Engine, words: str) -> None:
    with write(engine) as session:
        session.execute(text("INSERT INTO note VALUES (:words)"), {"words": words})


def notes(engine: Engine) -> list[str]:
    with read(engine) as session:
        return list(session.scalars(text("SELECT words FROM note")))


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def start_other(path: Path, words: str, how: str) -> subprocess.Popen[str]:
    """Another process that writes one row; it has done so when this returns."""
    command = [sys.executable, "-c", OTHER, str(path), words, how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "written\n"
    return process


def drop_the_locks(path: Path) -> None:
    """What any library can do to SQLite in its process: open and close the file. Behind the back of Python, where the
    suite would not let us."""
    libc = ctypes.CDLL(None)
    assert libc.close(libc.open(bytes(path), os.O_RDONLY)) == 0


def delete_as_the_last_user(path: Path) -> None:
    """What an ordinary SQLite program does when it closes the database and sees no lock of others."""
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM note'); c.close()"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_what_is_committed_after_an_ordinary_program_deleted_the_log_is_refused(path: Path, engine: Engine) -> None:
    """The way in which acknowledged commits were lost."""
    note(engine, "before")
    drop_the_locks(path)
    delete_as_the_last_user(path)
    assert not log_of(path).exists()
    with pytest.raises(DatabaseLost, match=r"a\.sqlite-wal was deleted"):
        note(engine, "after")
    with pytest.raises(DatabaseLost):
        notes(engine)
    other = open_database(f"sqlite:///{path}")  # SQLite still has parts of the old files in this process
    with pytest.raises(DatabaseLost):
        notes(other)
    engine.dispose()
    code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT words FROM note').fetchall())"
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert ran.stdout == "[('before',)]\n"


@pytest.mark.parametrize("which", ["a.sqlite", "a.sqlite-wal"])
@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_nothing_is_acknowledged_once_a_file_is_another_one(path: Path, engine: Engine, which: str, how: str) -> None:
    told: list[DatabaseLost] = []
    watching = open_database(f"sqlite:///{path}", on_lost=told.append)
    note(watching, "before")
    file = path.with_name(which)
    file.rename(path.with_name("former"))
    if how == "replaced":
        path.with_name("new").touch()
        path.with_name("new").rename(file)
    for changed in (engine, watching):
        with pytest.raises(DatabaseLost, match=f"{which} was {how}") as caught:
            note(changed, "after")
    assert "start again" in caught.value.remedy and str(path.parent) not in str(caught.value)
    assert len(told) == 1
    watching.dispose()


def test_a_log_that_goes_while_a_transaction_is_open_makes_its_commit_fail(path: Path, engine: Engine) -> None:
    with pytest.raises(DatabaseLost), write(engine) as session:
        session.execute(text("INSERT INTO note VALUES ('half')"))
        log_of(path).unlink()
    with pytest.raises(DatabaseLost):
        note(engine, "next")


@pytest.mark.parametrize("known", [True, False], ids=["a connection that was open", "a new connection"])
def test_a_short_read_of_the_log_is_fatal(path: Path, engine: Engine, known: bool) -> None:
    """The file is the same, its content is not: SQLite's own index of the log says more than there is."""
    for number in range(50):
        note(engine, f"{number}" * 1000)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA shrink_memory")  # what it read before is not in its cache
    with nullcontext() if known else engine.connect():  # which holds the only connection of the pool
        command = [sys.executable, "-c", "import os, sys; os.truncate(sys.argv[1], 4000)", str(log_of(path))]
        subprocess.run(command, check=True)
        with pytest.raises(DatabaseLost, match="SHORT_READ"):
            notes(engine)
    with pytest.raises(DatabaseLost, match="SHORT_READ"):
        note(engine, "after")


@pytest.mark.parametrize("how", ["closes", "never closes"])
def test_a_short_process_beside_one_that_lost_its_locks_leaves_the_log(path: Path, engine: Engine, how: str) -> None:
    log = log_of(path).stat().st_ino
    for number in range(2):
        drop_the_locks(path)
        start_other(path, f"other {number}", how).communicate()
        assert log_of(path).stat().st_ino == log
        note(engine, f"own {number}")
    code = "import sqlite3, sys; print(len(sqlite3.connect(sys.argv[1]).execute('SELECT * FROM note').fetchall()))"
    assert subprocess.check_output([sys.executable, "-c", code, str(path)]) == b"4\n"


def test_closing_one_of_several_engines_of_a_process_leaves_the_log_and_the_last_one_merges_it(
    path: Path, engine: Engine
) -> None:
    other = open_database(f"sqlite:///{path}")
    note(other, "other")
    other.dispose()
    assert log_of(path).exists()
    note(engine, "own")
    engine.dispose()
    assert sorted(file.name for file in path.parent.iterdir()) == ["a.sqlite", "a.sqlite-turn"]
    assert notes(engine) == ["other", "own"]  # an engine may go on after `dispose`


def test_the_last_process_merges_also_what_a_killed_one_left(path: Path, engine: Engine) -> None:
    killed = start_other(path, "killed", "waits")
    killed.kill()
    killed.communicate()
    running = start_other(path, "running", "waits")
    running.communicate()
    assert log_of(path).exists()
    engine.dispose()
    assert not log_of(path).exists()
    assert notes(engine) == ["killed", "running"]


def test_a_writer_inside_a_writer_is_refused_at_once_and_nothing_stays_locked(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="inside another one"), write(engine) as outer:
        outer.execute(text("INSERT INTO note VALUES ('outer')"))
        note(engine, "inner")
    note(engine, "next")
    assert notes(engine) == ["next"]


def test_readers_do_not_wait_for_writers_nor_writers_for_readers(engine: Engine) -> None:
    with read(engine) as reader:
        assert reader.scalars(text("SELECT words FROM note")).all() == []
        with write(engine) as writer:
            writer.execute(text("INSERT INTO note VALUES ('one')"))
            assert notes(engine) == []
        note(engine, "two")
    assert notes(engine) == ["one", "two"]


def test_a_writer_that_waits_too_long_is_refused_and_the_next_is_not(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with write(engine) as session:
        session.execute(text("INSERT INTO note VALUES ('long')"))
        with monkeypatch.context() as hurried:
            hurried.setattr("storage.database.BUSY_TIMEOUT_MS", 10)
            with pytest.raises(DatabaseBusy, match="Others have been writing"):
                in_threads(lambda: note(engine, "refused"))
    in_threads(lambda: note(engine, "next"))
    assert notes(engine) == ["long", "next"]


def test_a_process_that_asked_first_writes_first(path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the lock file from when it begins to wait until its transaction has begun."""
    monkeypatch.setattr("storage.database.BUSY_TIMEOUT_MS", 10)
    with path.with_name("a.sqlite-turn").open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_EX)
        with pytest.raises(DatabaseBusy, match="about to write"):
            note(engine, "too early")
        assert notes(engine) == []
    note(engine, "now")
    assert notes(engine) == ["now"]


def test_a_lock_of_another_program_is_a_busy_database(
    path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.database.BUSY_TIMEOUT_MS", 10)
    engine.dispose()  # the next connection waits for 10 ms only
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseBusy, match="Another process"):
        note(engine, "refused")
    other.execute("COMMIT")
    other.close()
    note(engine, "now")
    assert notes(engine) == ["now"]


def test_writers_of_many_threads_all_get_their_turn(engine: Engine) -> None:
    """More threads than the pool has connections; some fail, and a session may be left to the garbage collector."""

    def work() -> None:
        for number in range(5):
            with suppress(ZeroDivisionError), write(engine) as session:
                session.execute(text("INSERT INTO note VALUES (:n)"), {"n": str(number)})
                if number == 2:
                    raise ZeroDivisionError
            assert len(notes(engine)) > 0

    in_threads(*[work] * 64)
    assert len(notes(engine)) == 64 * 4


def test_a_cancelled_task_gives_its_turn_back(path: Path, engine: Engine) -> None:
    """As in the server: work runs in a thread, which ends when it is done and not when its task is cancelled."""
    go_on = threading.Event()
    queue = database_file._files[str(path)].writers

    def work(words: str) -> None:
        with write(engine) as session:
            session.execute(text("INSERT INTO note VALUES (:words)"), {"words": words})
            assert go_on.wait(60)

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            for waiting, words in enumerate(("has the turn", "waits")):
                tasks.start_soon(cancellable, words)
                await anyio.to_thread.run_sync(until, lambda n=waiting: queue._turn and len(queue._waiting) == n)
            tasks.cancel_scope.cancel()
        go_on.set()
        await anyio.to_thread.run_sync(note, engine, "next")

    async def cancellable(words: str) -> None:
        await anyio.to_thread.run_sync(work, words, abandon_on_cancel=True)

    anyio.run(run)
    assert notes(engine) == ["has the turn", "waits", "next"]


def in_threads(*works: Callable[[], None]) -> None:
    """Run all at once, to the end; the first error is raised here."""
    raised: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)
