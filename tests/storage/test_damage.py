from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from storage import accounts, blob_records, damage, open_database, read, repos, scrub_position, write
from storage.blobs import LocalBlobs
from storage.clock import utc_now
from storage.errors import DamagedBlob
from storage.revisions import File
from storage.scrub_position import Position

MakeFile = Callable[..., File]
UNKNOWN = "0" * 64


class TestMarks:
    def test_a_mark_stays_until_the_bytes_are_put_again(self, session: Session, make_file: MakeFile) -> None:
        file = make_file(session)
        sha256 = file.sha256
        assert not damage.ever(session, sha256)
        assert damage.mark(session, DamagedBlob(sha256, "short")) is True
        assert damage.mark(session, DamagedBlob(sha256, "missing")) is False  # the first finding stays
        assert damage.found(session, [sha256, UNKNOWN]) == {sha256: "short"}
        assert damage.unhealed(session) == {sha256: file.size}
        make_file(session)  # it is recorded once more: its bytes were put again
        assert damage.found(session, [sha256]) == damage.unhealed(session) == {}
        assert damage.ever(session, sha256)
        assert damage.mark(session, DamagedBlob(sha256, "missing")) is True
        assert damage.found(session, [sha256]) == {sha256: "missing"}

    def test_only_recorded_blobs_are_marked_and_a_mark_goes_with_its_blob(self, engine: Engine, tmp_path: Path) -> None:
        blobs = LocalBlobs(tmp_path)
        stored = blobs.put_stream([b"loose"])
        old = utc_now() - timedelta(days=3)
        with write(engine) as session:
            blob_records.record(session, accounts.ensure(session), [stored], now=old)
            assert damage.mark(session, DamagedBlob(UNKNOWN, "missing")) is False
            assert damage.mark(session, DamagedBlob(stored.sha256, "short")) is True
        blob_records.sweep_unused(engine, blobs)
        with read(engine) as session:
            assert damage.unhealed(session) == {} and not damage.ever(session, stored.sha256)

    def test_bytes_put_again_for_the_cache_of_an_upstream_heal_as_well(self, session: Session, tmp_path: Path) -> None:
        stored = LocalBlobs(tmp_path).put_stream([b"cached"])
        blob_records.record_cached(session, [stored])
        damage.mark(session, DamagedBlob(stored.sha256, "short"))
        blob_records.record_cached(session, [stored])
        assert damage.found(session, [stored.sha256]) == {}


class TestReport:
    def test_a_finding_is_one_line_of_the_log_however_often_it_is_read(
        self, engine: Engine, make_file: MakeFile, caplog: pytest.LogCaptureFixture
    ) -> None:
        with write(engine) as session:
            sha256 = make_file(session).sha256
        with caplog.at_level(logging.ERROR, logger="mixhub"):
            for _ in range(3):
                damage.report(engine, DamagedBlob(sha256, "short"))
        (line,) = caplog.messages
        assert line == f"blob {sha256} is damaged: short; mixhub db check --deep --repair"

    def test_a_database_that_takes_no_mark_does_not_hide_the_damage(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        engine = open_database(f"sqlite:///{tmp_path / 'without-tables.sqlite'}")
        damage.report(engine, DamagedBlob(UNKNOWN, "short"))
        engine.dispose()
        assert "could not be marked" in caplog.text


def test_a_damaged_blob_in_a_repo_stays_recorded(session: Session, make_file: MakeFile) -> None:
    """The row is what the bytes are asked for by."""
    repos.create(session, accounts.ensure(session).name, "a")
    sha256 = make_file(session).sha256
    damage.mark(session, DamagedBlob(sha256, "missing"))
    assert sha256 in blob_records.stored(session, [sha256])


def test_the_position_of_a_scrub_is_kept_and_blobs_follow_by_their_digest(
    session: Session, make_file: MakeFile
) -> None:
    assert scrub_position.read(session) is None
    digests = sorted(make_file(session, content=bytes([i])).sha256 for i in range(5))
    listed = scrub_position.following(session, "", limit=3)
    assert listed == [(sha256, 1) for sha256 in digests[:3]]
    assert [sha256 for sha256, _ in scrub_position.following(session, digests[2], limit=9)] == digests[3:]
    assert scrub_position.following(session, digests[-1], limit=9) == []
    for after in (digests[1], ""):
        position = Position(after, utc_now())
        scrub_position.save(session, position)
        session.flush()
        assert scrub_position.read(session) == position
