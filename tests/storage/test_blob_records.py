from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from storage import accounts, blob_records, repos, revisions, write
from storage.blobs import open_blobs
from storage.errors import Swept
from storage.repos import Repo
from storage.revisions import File, Revision

MakeRepo = Callable[..., Repo]
Commit = Callable[..., Revision]
MakeFile = Callable[..., File]


class TestWhoMayUseABlob:
    def test_knowing_a_digest_gives_no_right_to_the_bytes(self, session: Session, make_file: MakeFile) -> None:
        file = make_file(session, account="ann")
        ann, bob = accounts.find(session, "ann"), accounts.ensure(session, "bob")
        wanted = [file.sha256, "f" * 64]
        assert set(blob_records.blobs_usable(session, ann, wanted)) == {file.sha256}
        assert blob_records.blobs_usable(session, bob, wanted) == {}
        assert set(blob_records.stored(session, wanted)) == {file.sha256}

    def test_a_blob_in_a_repo_that_one_can_read_may_be_used(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        repo = make_repo(session, account="ann")
        revision = commit(session, repo)
        (file,) = revisions.files_of(session, revision)
        owner, stranger = accounts.find(session, "ann"), accounts.ensure(session, "bob")

        def usable(account: accounts.Account) -> bool:
            return file.sha256 in blob_records.blobs_usable(session, account, [file.sha256])

        assert usable(owner)
        assert usable(stranger)
        for visibility, gated in (("private", None), ("public", "auto"), ("public", "manual")):
            repos.set_access(session, repo, visibility=visibility, gated=gated)
            assert usable(owner)
            assert not usable(stranger)
        repos.set_access(session, repo, visibility="public", gated=None)
        repos.delete(session, repo, actor="ann")
        assert not usable(owner)
        assert not usable(stranger)

    def test_many_digests_at_once_are_no_trouble(self, session: Session, make_file: MakeFile) -> None:
        file = make_file(session)
        many = [f"{number:064x}" for number in range(2000)]
        account = accounts.find(session, "local")
        assert set(blob_records.blobs_usable(session, account, [*many, file.sha256])) == {file.sha256}


def test_a_sweep_takes_what_no_revision_holds_and_keeps_deleted_repos_readable(engine: Engine, tmp_path: Path) -> None:
    blobs = open_blobs(tmp_path / "blobs")
    held, loose, unrecorded = (blobs.put_stream([content]) for content in (b"held", b"loose", b"unrecorded"))
    with write(engine) as session:
        account = accounts.ensure(session)
        blob_records.record(session, account, [held, loose])
        repo = repos.create(session, "local", "a")
        file = File("a", held.size, held.sha256, held.git_sha1)
        revisions.create_revision(session, repo, [file], parent=None, author="a", title="t")
        repos.delete(session, repo, actor="a")
    assert blob_records.sweep_unused(engine, blobs).blobs == ()
    swept = blob_records.sweep_unused(engine, blobs, now=datetime.now(UTC) + timedelta(days=2))
    assert set(swept.blobs) == {loose.sha256, unrecorded.sha256}
    assert [blob.sha256 for blob in blobs.blobs()] == [held.sha256]
    with write(engine) as session:
        assert set(blob_records.stored(session, [held.sha256, loose.sha256])) == {held.sha256}


def test_uploading_again_protects_an_old_blob_from_the_sweep(engine: Engine, tmp_path: Path) -> None:
    blobs = open_blobs(tmp_path / "blobs")
    long_ago = datetime.now(UTC) - timedelta(days=9)
    stored = blobs.put_stream([b"content"])
    with write(engine) as session:
        blob_records.record(session, accounts.ensure(session), [stored], now=long_ago)
    with write(engine) as session:
        blob_records.record(session, accounts.ensure(session), [blobs.put_stream([b"content"])])
    assert blob_records.sweep_unused(engine, blobs).blobs == ()
    with write(engine) as session:
        assert set(blob_records.stored(session, [stored.sha256])) == {stored.sha256}


def test_bytes_that_a_sweep_took_before_they_were_recorded_are_refused(engine: Engine, tmp_path: Path) -> None:
    blobs = open_blobs(tmp_path / "blobs")
    blob = blobs.put_stream([b"late"])
    with write(engine) as session:
        blob_records.require_bytes(session, blobs, [blob])
    later = datetime.now(UTC) + timedelta(hours=2)
    assert blob_records.sweep_unused(engine, blobs, older_than=timedelta(hours=1), now=later).blobs == (blob.sha256,)
    with write(engine) as session, pytest.raises(Swept, match=blob.sha256):
        blob_records.require_bytes(session, blobs, [blob])
