from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from storage import accounts, blob_records, damage, open_database, repos, revisions, write
from storage.blobs import BlobStore, LocalBlobs, StoredBlob, open_blobs
from storage.check import Problem, check
from storage.errors import DamagedBlob
from storage.revisions import File


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blobs(tmp_path / "blobs")


@pytest.fixture
def stored(engine: Engine, blobs: BlobStore) -> StoredBlob:
    """The only blob of a home with one revision."""
    stored = blobs.put_stream([b"content"])
    with write(engine) as session:
        blob_records.record(session, accounts.ensure(session), [stored])
        repo = repos.create(session, "local", "a")
        file = File("a.bin", stored.size, stored.sha256, stored.git_sha1)
        revisions.create_revision(session, repo, [file], parent=None, author="ann", title="t")
    return stored


def path_of(blobs: BlobStore, stored: StoredBlob) -> Path:
    path = blobs.local_path(stored.sha256)
    assert path is not None
    return path


class TestCheck:
    def test_a_sound_home_has_no_problems(self, engine: Engine, blobs: BlobStore, stored: StoredBlob) -> None:
        assert stored.size == 7
        assert check(engine, blobs, deep=True) == []

    def test_missing_short_and_changed_bytes_are_found(
        self, engine: Engine, blobs: BlobStore, stored: StoredBlob
    ) -> None:
        path = path_of(blobs, stored)
        path.write_bytes(b"CONTENT")
        assert check(engine, blobs) == []  # the size is right: only a deep look shows it
        (changed,) = check(engine, blobs, deep=True)
        assert (changed.severity, changed.subject) == ("problem", f"blob {stored.sha256}")
        assert "a.bin of local/a@" in changed.message  # where it hurts
        path.write_bytes(b"con")
        (short,) = check(engine, blobs)
        assert "3 bytes" in short.message
        path.unlink()
        (missing,) = check(engine, blobs)
        assert "missing" in missing.message

    def test_what_was_marked_stays_a_problem_until_a_deep_look_finds_it_sound(
        self, engine: Engine, blobs: BlobStore, stored: StoredBlob
    ) -> None:
        damage.report(engine, DamagedBlob(stored.sha256, "its bytes have another sha256"))
        (marked,) = check(engine, blobs)
        assert marked.severity == "problem" and "another sha256" in marked.message
        assert check(engine, blobs, deep=True) == []
        assert check(engine, blobs) == []

    def test_damage_of_what_nobody_needs_is_a_note(self, engine: Engine, blobs: BlobStore) -> None:
        loose = blobs.put_stream([b"loose"])
        with write(engine) as session:
            blob_records.record(session, accounts.ensure(session), [loose])
        path_of(blobs, loose).write_bytes(b"LOOSE")
        (found,) = check(engine, blobs, deep=True)
        assert (found.severity, found.subject) == ("note", f"blob {loose.sha256}")

    def test_leftovers_and_unknown_blobs_are_notes(
        self, engine: Engine, blobs: BlobStore, stored: StoredBlob, tmp_path: Path
    ) -> None:
        unknown = blobs.put_stream([b"unknown"])
        (tmp_path / "blobs" / "incoming" / "half").write_bytes(b"ha")
        found = check(engine, blobs, deep=True)
        assert {problem.severity for problem in found} == {"note"}
        assert {problem.subject for problem in found} == {f"blob {unknown.sha256}", "leftover half"}
        assert stored.sha256 not in str(found)

    def test_file_rows_that_disagree_with_their_blob_are_found(
        self, engine: Engine, blobs: BlobStore, stored: StoredBlob
    ) -> None:
        with write(engine) as session:
            session.execute(text("UPDATE revision_file SET size = size + 1"))
        (problem,) = check(engine, blobs)
        assert "a.bin" in problem.subject
        assert str(stored.size) in problem.message


def test_rows_that_lost_what_they_refer_to_are_found(sqlite_template: Path, tmp_path: Path) -> None:
    """Only possible behind the program's back: with foreign keys off."""
    path = tmp_path / "mixhub.sqlite"
    path.write_bytes(sqlite_template.read_bytes())
    engine = open_database(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(
            "INSERT INTO ref (repo_id, kind, name, revision_id, updated_at) "
            "VALUES (7, 'branch', 'main', 9, '2026-01-01')"
        )
        connection.commit()
        connection.invalidate()
    found = check(engine, LocalBlobs(tmp_path / "blobs"))
    engine.dispose()
    assert Problem("problem", "ref main", "points to nothing, not a commit of its repo") in found
    assert any("refers to a row of revision" in problem.message for problem in found)
