"""Backups and what is restored from them: the same rows, the same bytes, or an error that names what is wrong."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hub import token_format
from hub.access import caller_of
from hub.actions import accounts as account_actions
from hub.actions import backup as backup_action
from hub.actions.backup import back_up
from hub.actions.database import check
from hub.actions.restore import restore
from hub.errors import BackupFailed, HubError, UsageError
from hub.half_home import MARKER
from hub.home import Home, open_home
from hub.settings import Settings
from storage import accounts, blob_records, open_database, repos, revisions, server_keys
from storage.backups import BackupFolder
from storage.clock import utc_now
from storage.database import write
from storage.errors import BadBackup, Conflict, SchemaOutdated
from storage.reclaim import reclaim
from storage.revisions import File


def settings_of(folder: Path) -> Settings:
    return Settings(home=folder, database_url="", blobs_url="")


@pytest.fixture
def settings(home_folder: Path) -> Settings:
    return settings_of(home_folder)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def put(home: Home, name: str, content: bytes) -> str:
    """A repo `local/NAME` with one file; the sha256 of its blob."""
    blob = home.blobs.put_stream([content])
    with home.write() as session:
        account = accounts.ensure(session)
        blob_records.record(session, account, [blob])
        repo = repos.create(session, "local", name)
        file = File("a.bin", blob.size, blob.sha256, blob.git_sha1)
        revisions.create_revision(session, repo, [file], parent=None, author="ann", title="t")
    return blob.sha256


def blob_of(folder: Path, sha256: str) -> Path:
    return folder / "blobs" / sha256[:2] / sha256


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rows(database: Path) -> dict[str, list[str]]:
    with closing(sqlite3.connect(f"file:{database}?immutable=1", uri=True)) as opened:
        tables = [row[0] for row in opened.execute("select name from sqlite_master where type = 'table'")]
        return {table: sorted(map(repr, opened.execute(f'select * from "{table}"'))) for table in tables}


def assert_restores(backup: Path, new: Path) -> None:
    """Into a new home, which is sound."""
    restore(settings_of(new), backup)
    assert check(settings_of(new), deep=True).problems == ()


def test_a_restored_home_has_the_rows_the_bytes_and_the_tokens(
    settings: Settings, home_folder: Path, target: Path, tmp_path: Path
) -> None:
    with open_home(settings) as home:
        token = account_actions.first_start(home)
        files = {put(home, f"r{i}", bytes([i]) * 1000) for i in range(3)}
        with home.write() as session:
            key = server_keys.key(session, "uploads")
    with closing(sqlite3.connect(home_folder / "jobs.sqlite")) as jobs:  # another database of the home
        jobs.execute("CREATE TABLE job (id)")
        jobs.execute("INSERT INTO job VALUES (7)")
        jobs.commit()
    done = back_up(settings, target)
    assert (done.copied, done.removed, done.notes) == (3, 0, ())
    assert {path.name for path in target.iterdir()} == {
        "backup.json", "backup.lock", "blobs", "jobs.sqlite", "mixhub.sqlite",
    }  # fmt: skip
    assert all(path.stat().st_mode & 0o077 == 0 for path in target.iterdir() if path.name != "backup.lock")
    new = tmp_path / "new"
    restored = restore(settings_of(new), target)
    assert restored.manifest == done.manifest and set(done.manifest.blobs) == files
    assert new.stat().st_mode & 0o077 == 0
    assert rows(new / "mixhub.sqlite") == rows(home_folder / "mixhub.sqlite")
    assert rows(new / "jobs.sqlite") == {"job": ["(7,)"]}
    assert {path.name: path.read_bytes() for path in new.glob("blobs/??/*")} == {
        path.name: path.read_bytes() for path in home_folder.glob("blobs/??/*")
    }
    report = check(settings_of(new), deep=True)
    assert (report.problems, report.notes) == ((), ())
    with open_home(settings_of(new)) as home, home.read() as session:
        assert token_format.is_well_formed(token or "") and caller_of(session, token).everything
        assert server_keys.key(session, "uploads") == key


def test_a_second_backup_copies_what_is_new_and_lets_go_of_what_is_gone(
    settings: Settings, target: Path, tmp_path: Path
) -> None:
    with open_home(settings) as home:
        kept, gone = put(home, "a", b"kept"), put(home, "b", b"gone")
        first = back_up(settings, target)
        new = put(home, "c", b"new")
        with home.write() as session:
            repos.delete(session, repos.find(session, "local", "b"), actor="ann")
            reclaim(session, deleted_before=utc_now() + timedelta(seconds=1))
        blob_records.sweep_unused(home.engine, home.blobs, older_than=timedelta(seconds=-1))
        second = back_up(settings, target)
    assert set(first.manifest.blobs) == {kept, gone} and set(second.manifest.blobs) == {kept, new}
    assert (second.copied, second.copied_bytes, second.removed) == (1, 3, 1)
    assert {path.name for path in target.glob("blobs/??/*")} == {kept, new}
    assert BackupFolder(target).read() == second.manifest
    assert_restores(target, tmp_path / "new")


def test_a_flipped_bit_is_named_the_rest_is_copied_and_the_backup_before_still_holds(
    settings: Settings, home_folder: Path, target: Path, tmp_path: Path
) -> None:
    with open_home(settings) as home:
        put(home, "a", b"first")
        first = back_up(settings, target)
        bad, good, lost = (put(home, name, name.encode() * 500) for name in ("b", "c", "d"))
    flip(blob_of(home_folder, bad))
    blob_of(home_folder, lost).unlink()
    with pytest.raises(BackupFailed) as caught:
        back_up(settings, target)
    assert set(caught.value.damaged) == {bad, lost} and bad in caught.value.message and lost in caught.value.message
    assert blob_of(target, good).read_bytes() == b"c" * 500 and not blob_of(target, bad).exists()
    assert BackupFolder(target).read() == first.manifest
    assert_restores(target, tmp_path / "new")


def test_what_no_revision_holds_may_be_damaged_and_is_left_out(
    settings: Settings, home_folder: Path, target: Path, tmp_path: Path
) -> None:
    with open_home(settings) as home:
        held = put(home, "a", b"held")
        loose = home.blobs.put_stream([b"loose" * 100])
        with home.write() as session:
            blob_records.record(session, accounts.ensure(session), [loose])
    whole = back_up(settings, target)
    assert set(whole.manifest.blobs) == {held, loose.sha256}  # whoever brought it has not committed it yet
    flip(blob_of(home_folder, loose.sha256))
    flip(blob_of(target, loose.sha256))
    done = back_up(settings, target)
    assert set(done.manifest.blobs) == {held} and loose.sha256 in done.notes[0]
    assert_restores(target, tmp_path / "new")


def test_a_blob_of_the_backup_that_rotted_is_copied_again(settings: Settings, target: Path, tmp_path: Path) -> None:
    with open_home(settings) as home:
        sha256 = put(home, "a", b"content" * 100)
    back_up(settings, target)
    flip(blob_of(target, sha256))
    assert back_up(settings, target).copied == 1
    assert blob_of(target, sha256).read_bytes() == b"content" * 100
    assert_restores(target, tmp_path / "new")


def test_what_is_swept_between_snapshot_and_copy_takes_another_snapshot(
    settings: Settings, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_home(settings) as home:
        kept, gone = put(home, "a", b"kept"), put(home, "b", b"gone")
        copy, copies = backup_action._copy, []

        def after_a_sweep(*given: Any) -> Any:
            copies.append(given)
            if len(copies) == 1:
                with home.write() as session:
                    repos.delete(session, repos.find(session, "local", "b"), actor="ann")
                    reclaim(session, deleted_before=utc_now() + timedelta(seconds=1))
                swept = blob_records.sweep_unused(home.engine, home.blobs, older_than=timedelta(seconds=-1))
                assert swept.blobs == (gone,)
            return copy(*given)

        monkeypatch.setattr(backup_action, "_copy", after_a_sweep)
        done = back_up(settings, target)
    assert len(copies) == 2 and set(done.manifest.blobs) == {kept}
    assert_restores(target, tmp_path / "new")


def test_folders_that_are_no_place_for_a_backup_are_refused(
    settings: Settings, home_folder: Path, tmp_path: Path
) -> None:
    for inside in (home_folder, home_folder / "backup", home_folder.parent):
        with pytest.raises(UsageError, match="in each other"):
            back_up(settings, inside)
    other = tmp_path / "other" / "full"
    other.mkdir(parents=True)
    (other / "mine.txt").write_text("mine")
    with pytest.raises(BadBackup, match="no backup"):
        back_up(settings, other)
    assert [path.name for path in other.iterdir()] == ["mine.txt"]
    with pytest.raises(HubError, match="holds no home"):
        back_up(settings_of(tmp_path / "no" / "home"), tmp_path / "b")
    with BackupFolder(tmp_path / "b").locked(), pytest.raises(Conflict, match="Another backup"):
        back_up(settings, tmp_path / "b")


def test_what_is_no_finished_backup_or_was_changed_is_not_restored(
    settings: Settings, target: Path, tmp_path: Path
) -> None:
    with open_home(settings) as home:
        put(home, "a", b"content")
    new = settings_of(tmp_path / "new")
    with pytest.raises(BadBackup, match="no finished backup"):
        restore(new, target)
    back_up(settings, target)
    manifest = (target / "backup.json").read_text()
    for changed, error in (
        ("{", BadBackup), ("[]", BadBackup), (manifest.replace('"blobs": 1', '"blobs": 2'), BadBackup),
        (manifest.replace('"mixhub.sqlite"', '"../x.sqlite"'), BadBackup),
        (manifest.replace('"format": 1', '"format": 2'), BadBackup),
        (json.dumps({**json.loads(manifest), "schema": "9999"}), SchemaOutdated),
    ):  # fmt: skip
        (target / "backup.json").write_text(changed)
        with pytest.raises(error):
            restore(new, target)
    (target / "backup.json").write_text(manifest)
    database = (target / "mixhub.sqlite").read_bytes()
    flip(target / "mixhub.sqlite")
    with pytest.raises(BadBackup, match=r"mixhub\.sqlite is not the file"):
        restore(new, target)
    (target / "mixhub.sqlite").write_bytes(database)
    assert not new.directory.exists()  # nothing was begun
    with pytest.raises(UsageError, match="is not empty"):
        restore(settings, target)
    with open_home(settings) as home, home.read() as session:
        assert repos.find(session, "local", "a")
    new.directory.mkdir(mode=0o755)
    assert_restores(target, new.directory)
    assert new.directory.stat().st_mode & 0o077 == 0


def test_a_damaged_blob_of_the_backup_is_named_and_the_home_stays_closed_until_it_is_whole(
    settings: Settings, target: Path, tmp_path: Path
) -> None:
    with open_home(settings) as home:
        bad, good = put(home, "a", b"bad" * 100), put(home, "b", b"good" * 100)
    back_up(settings, target)
    flip(blob_of(target, bad))
    new = tmp_path / "new"
    with pytest.raises(BackupFailed) as caught:
        restore(settings_of(new), target)
    assert set(caught.value.damaged) == {bad} and blob_of(new, good).exists() and not blob_of(new, bad).exists()
    with pytest.raises(HubError, match="half a home") as closed, open_home(settings_of(new)):
        pass
    assert str(target) in closed.value.remedy and (new / MARKER).exists() and not (new / "mixhub.sqlite").exists()
    flip(blob_of(target, bad))
    assert_restores(target, new)
    assert {path.name for path in new.iterdir()} == {"blobs", "mixhub.sqlite", "mixhub.sqlite-turn"}
    assert hashlib.sha256(blob_of(new, bad).read_bytes()).hexdigest() == bad


def test_a_home_of_an_earlier_schema_is_backed_up_and_restored_as_it_is(
    settings: Settings, target: Path, tmp_path: Path
) -> None:
    import migrations

    with open_home(settings) as home:
        put(home, "a", b"content")
        migrations.downgrade(home.engine, "0005")
    assert back_up(settings, target).manifest.schema == "0005"
    new = settings_of(tmp_path / "new")
    restore(new, target)
    with pytest.raises(SchemaOutdated), open_home(new):
        pass


def test_the_commands(
    mixhub: Callable[..., Any], settings: Settings, home_folder: Path, target: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with open_home(settings) as home:
        sha256 = put(home, "a", b"content")
    made = mixhub("backup", target, "--json").json
    assert made["blobs"] == made["copied"] == 1 and made["databases"] == ["mixhub.sqlite"]
    assert str(target) in mixhub("backup", target).out
    flip(blob_of(home_folder, sha256))
    flip(blob_of(target, sha256))
    failed = mixhub("backup", target)
    assert failed.code == 1 and failed.out == "" and sha256 in failed.err
    blob_of(home_folder, sha256).write_bytes(b"content")
    assert mixhub("backup", target).code == 0
    assert mixhub("backup", home_folder, "--json").code == 2
    monkeypatch.setenv("MIXHUB_HOME", str(tmp_path / "new"))
    assert mixhub("restore", target, "--json").json["home"] == str(tmp_path / "new")
    assert mixhub("restore", target).code == 2
    assert mixhub("db", "check", "--deep").code == 0
    stopped = mixhub("--url", "http://127.0.0.1:1", "backup", target)
    assert stopped.code == 2 and "own machine" in stopped.err

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backup_action, "_copy", interrupt)
    stopped = mixhub("backup", target)
    assert stopped.code == 130 and f"to go on: mixhub backup {target}" in stopped.err


def test_a_database_elsewhere_is_restored_elsewhere(target: Path, tmp_path: Path) -> None:
    def at(name: str) -> Settings:
        (tmp_path / name).mkdir()
        return Settings(
            home=tmp_path / name / "home", database_url=f"sqlite:///{tmp_path / name / 'registry.db'}",
            blobs_url=str(tmp_path / name / "bytes"),
        )  # fmt: skip

    old, new = at("old"), at("new")
    with open_home(old) as home:
        sha256 = put(home, "a", b"content")
    back_up(old, target)
    restore(new, target)
    assert check(new, deep=True).problems == ()
    assert (tmp_path / "new" / "bytes" / sha256[:2] / sha256).read_bytes() == b"content"
    engine = open_database(new.database)
    with write(engine) as session:
        assert repos.find(session, "local", "a").full_name == "local/a"
    engine.dispose()
