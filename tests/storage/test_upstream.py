"""The cache of another hub's repos, on both databases."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from storage import accounts, blob_records, upstream, write
from storage.blobs import LocalBlobs
from storage.clock import utc_now
from storage.revisions import File
from storage.upstream import UpstreamRevision

SMALL = File("a.txt", 1, "", "a" * 40, "regular")
LARGE = File("w/model.safetensors", 5_000_000_000, "b" * 64, "", "lfs")


def revision(commit: str = "c") -> UpstreamRevision:
    return UpstreamRevision("Org/Base", commit * 40, (SMALL, LARGE), {"tags": ["x"], "cardData": {"license": "mit"}})


def test_a_revision_comes_back_as_it_was_by_commit_and_by_name_whatever_its_case(session: Session) -> None:
    upstream.record(session, revision(), name="main")
    found = upstream.at_commit(session, "org/BASE", "c" * 40)
    assert found is not None and found.files == (SMALL, LARGE)
    assert (found.full_name, found.info["tags"]) == ("Org/Base", ["x"])
    seen = upstream.last_seen(session, "org/base", "main")
    assert seen is not None and seen.revision == found
    assert upstream.last_seen(session, "org/base", "v1") is None
    assert upstream.at_commit(session, "org/other", "c" * 40) is None


def test_a_branch_that_moves_is_seen_at_its_new_place_and_the_old_commit_stays(session: Session) -> None:
    early = utc_now() - timedelta(hours=1)
    upstream.record(session, revision("c"), name="main", now=early)
    upstream.record(session, revision("d"), name="main")
    upstream.record(session, revision("c"), name=None)
    seen = upstream.last_seen(session, "org/base", "main")
    assert seen is not None and seen.revision.commit_id == "d" * 40 and seen.at > early
    assert upstream.at_commit(session, "org/base", "c" * 40) is not None


def test_a_kept_file_outlives_sweeps_until_the_cache_is_emptied_and_is_nobody_s(engine: Engine, tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    stored = blobs.put_stream([b"x"])
    later = utc_now() + timedelta(days=2)
    with write(engine) as session:
        upstream.keep(session, "Org/Base", SMALL, stored)
        upstream.keep(session, "Org/Base", SMALL, stored)
        assert upstream.kept(session, "org/base", SMALL) == stored.sha256
        assert upstream.kept(session, "org/other", SMALL) is None
        assert upstream.kept_bytes(session) == 1
        ann = accounts.ensure(session, "ann")
        assert blob_records.blobs_usable(session, ann, [stored.sha256]) == {}
    assert blob_records.sweep_unused(engine, blobs, now=later).blobs == ()
    with write(engine) as session:
        upstream.record(session, revision(), name="main")
        assert upstream.forget(session) == 1
        assert upstream.last_seen(session, "org/base", "main") is None
    assert blob_records.sweep_unused(engine, blobs, now=later).blobs == (stored.sha256,)
