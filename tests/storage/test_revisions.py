from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from storage import aliases, refs, repos, revisions, versions
from storage.errors import Conflict, InvalidName, NotFound
from storage.repos import Repo
from storage.revisions import Created, File, Revision

MakeRepo = Callable[..., Repo]
MakeFile = Callable[..., File]
Commit = Callable[..., Revision]


def create(session: Session, repo: Repo, files: list[File], parent: str | None, **options: str) -> Created:
    return revisions.create_revision(session, repo, files, parent=parent, author="ann", title="t", **options)


class TestRevisions:
    def test_what_was_committed_is_read_back(self, session: Session, make_repo: MakeRepo, make_file: MakeFile) -> None:
        repo = make_repo(session)
        files = [make_file(session, "b/c.txt", b"c"), replace(make_file(session, "a.bin", b"a"), upload_mode="regular")]
        made = create(session, repo, files, None, message="why")
        assert made.created
        assert re.fullmatch("[0-9a-f]{40}", made.revision.commit_id)
        assert revisions.resolve(session, repo, "main") == made.revision
        assert revisions.files_of(session, made.revision) == files[::-1]
        assert revisions.file_at(session, made.revision, "b/c.txt") == files[0]
        assert revisions.file_at(session, made.revision, "nothing") is None
        assert (made.revision.message, made.revision.parent, made.revision.state) == ("why", None, "ok")

    def test_the_oid_is_the_pointers_for_lfs_and_the_contents_for_regular_files(
        self, session: Session, make_file: MakeFile
    ) -> None:
        file = make_file(session)
        assert file.oid == file.pointer_sha1 != file.git_sha1
        assert replace(file, upload_mode="regular").oid == file.git_sha1

    def test_unchanged_content_makes_no_revision(
        self, session: Session, make_repo: MakeRepo, make_file: MakeFile
    ) -> None:
        repo = make_repo(session)
        files = [make_file(session, "a", b"1"), make_file(session, "b", b"2")]
        first = create(session, repo, files, None)
        again = create(session, repo, files[::-1], first.revision.commit_id)
        late = create(session, repo, files, None)  # built on nothing, but the content is there already
        assert again == late == Created(first.revision, created=False)

    def test_content_that_returns_to_an_earlier_state_is_a_new_revision(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        repo = make_repo(session)
        one, two, three = (commit(session, repo, content) for content in (b"1", b"2", b"1"))
        assert one.tree_digest == three.tree_digest
        assert len({one.commit_id, two.commit_id, three.commit_id}) == 3
        assert [r.commit_id for r in revisions.log(session, three)] == [
            three.commit_id, two.commit_id, one.commit_id,
        ]  # fmt: skip
        assert revisions.log(session, three, limit=2) == [three, two]

    def test_a_commit_on_an_old_head_is_refused_naming_both(
        self, session: Session, make_repo: MakeRepo, make_file: MakeFile, commit: Commit
    ) -> None:
        repo = make_repo(session)
        old, new = commit(session, repo, b"1"), commit(session, repo, b"2")
        for parent in (old.commit_id, None):
            with pytest.raises(Conflict, match=new.commit_id) as caught:
                create(session, repo, [make_file(session, content=b"3")], parent)
            assert (caught.value.expected, caught.value.found) == (parent, new.commit_id)
        assert revisions.resolve(session, repo) == new

    def test_commit_ids_depend_on_every_part(self) -> None:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        parts = ("0" * 32, "0" * 64, "1" * 40, "ann", now, "title", "message")
        changed = ("1" * 32, "1" * 64, None, "bob", now + timedelta(microseconds=1), "other", "other")
        ids = {revisions.commit_id(*parts)}
        for place, value in enumerate(changed):
            ids.add(revisions.commit_id(*parts[:place], value, *parts[place + 1 :]))  # type: ignore[arg-type]
        assert len(ids) == 8

    def test_two_repos_never_share_a_commit_id(
        self, session: Session, make_repo: MakeRepo, make_file: MakeFile
    ) -> None:
        now = datetime.now(UTC)
        files = [make_file(session)]
        made = [
            revisions.create_revision(
                session, make_repo(session, name), files, parent=None, author="a", title="t", now=now
            ).revision
            for name in ("one", "two")
        ]
        assert made[0].tree_digest == made[1].tree_digest
        assert made[0].commit_id != made[1].commit_id

    def test_blobs_must_be_recorded_as_the_files_say(
        self, session: Session, make_repo: MakeRepo, make_file: MakeFile
    ) -> None:
        repo, file = make_repo(session), make_file(session)
        with pytest.raises(NotFound, match=r"a\.bin"):
            create(session, repo, [replace(file, sha256="0" * 64)], None)
        for wrong in (replace(file, size=1), replace(file, git_sha1="0" * 40)):
            with pytest.raises(Conflict, match=r"a\.bin"):
                create(session, repo, [wrong], None)
        assert refs.every(session, repo) == []

    @pytest.mark.parametrize("path", ["../x", "/x", "a//b", ".git/config"])
    def test_bad_paths_are_refused(self, session: Session, make_repo: MakeRepo, make_file: MakeFile, path: str) -> None:
        with pytest.raises(InvalidName):
            create(session, make_repo(session), [replace(make_file(session), path=path)], None)

    def test_text_that_a_database_cannot_keep_is_refused(self, session: Session, make_repo: MakeRepo) -> None:
        for message in ("nul \0", "\ud800"):
            with pytest.raises(InvalidName, match="message"):
                create(session, make_repo(session, f"r{ord(message[-1])}"), [], None, message=message)

    def test_an_empty_tree_can_be_committed(self, session: Session, make_repo: MakeRepo) -> None:
        made = create(session, make_repo(session), [], None)
        assert made.created
        assert revisions.files_of(session, made.revision) == []

    def test_a_revision_has_many_names(self, session: Session, make_repo: MakeRepo, commit: Commit) -> None:
        repo = make_repo(session)
        revision = commit(session, repo)
        commit(session, repo, b"later")
        versions.give(session, repo, revision)
        refs.create_branch(session, repo, "feat/x", revision_id=revision.id)
        aliases.promote(session, repo, revision, "prod", actor="ann")
        for name in ("v1", "feat/x", "prod", revision.commit_id, revision.commit_id[:7]):
            assert revisions.resolve(session, repo, name) == revision
        for name in ("v2", "nothing", revision.commit_id[:6], "0" * 40, ""):
            with pytest.raises(NotFound, match="local/adapter"):
                revisions.resolve(session, repo, name)

    def test_only_branches_take_commits(
        self, session: Session, make_repo: MakeRepo, make_file: MakeFile, commit: Commit
    ) -> None:
        repo = make_repo(session)
        revision = commit(session, repo)
        refs.create_tag(session, repo, "fixed", revision_id=revision.id)
        with pytest.raises(Conflict, match="tag"):
            create(session, repo, [make_file(session, content=b"2")], revision.commit_id, branch="fixed")

    def test_a_deleted_repo_takes_no_commits(self, session: Session, make_repo: MakeRepo, make_file: MakeFile) -> None:
        repo = make_repo(session)
        repos.delete(session, repo, actor="ann")
        with pytest.raises(NotFound, match="deleted"):
            create(session, repo, [make_file(session)], None)

    def test_the_state_of_a_revision_can_be_corrected(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        revision = commit(session, make_repo(session))
        broken = revisions.set_state(session, revision, "broken", reason="no tensors")
        assert broken == replace(revision, state="broken", reason="no tensors")
