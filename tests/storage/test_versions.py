"""Branches, tags and versions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from storage import aliases, compositions, refs, repos, revisions, tombstones, versions
from storage.compositions import Composition, Parent
from storage.errors import AlreadyExists, Conflict, InvalidName, NotFound, PinnedRevision, VersionTaken
from storage.repos import Repo
from storage.revisions import Revision

MakeRepo = Callable[..., Repo]
Commit = Callable[..., Revision]


class TestRefs:
    def test_main_cannot_be_deleted_other_branches_can(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        repo = make_repo(session)
        revision = commit(session, repo)
        refs.create_branch(session, repo, "dev", revision_id=revision.id)
        refs.delete_branch(session, repo, "dev")
        assert [ref.name for ref in refs.every(session, repo)] == ["main"]
        with pytest.raises(Conflict, match="main"):
            refs.delete_branch(session, repo, "main")
        with pytest.raises(NotFound, match="dev"):
            refs.delete_branch(session, repo, "dev")

    def test_one_name_means_one_thing(self, session: Session, make_repo: MakeRepo, commit: Commit) -> None:
        repo = make_repo(session)
        revision = commit(session, repo)
        aliases.promote(session, repo, revision, "prod", actor="ann")
        refs.create_tag(session, repo, "first", revision_id=revision.id, message="hello")
        for create in (refs.create_branch, refs.create_tag):
            for name in ("main", "first", "prod"):
                with pytest.raises(AlreadyExists, match=name):
                    create(session, repo, name, revision_id=revision.id)
            with pytest.raises(InvalidName, match="v7"):
                create(session, repo, "v7", revision_id=revision.id)
        for name in ("main", "first"):
            with pytest.raises((AlreadyExists, InvalidName), match=name):
                aliases.promote(session, repo, revision, name, actor="ann")

    def test_a_branch_moves_only_from_where_it_was_believed_to_be(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        repo = make_repo(session)
        one, two = commit(session, repo, b"1"), commit(session, repo, b"2")
        with pytest.raises(Conflict) as caught:
            refs.move_branch(session, repo, "main", revision_id=one.id, expected_id=one.id)
        assert (caught.value.expected, caught.value.found) == (one.commit_id, two.commit_id)
        refs.move_branch(session, repo, "main", revision_id=one.id, expected_id=two.id)
        assert revisions.resolve(session, repo) == one


class TestVersions:
    def test_versions_count_up(self, session: Session, make_repo: MakeRepo, commit: Commit) -> None:
        repo = make_repo(session)
        given = [versions.give(session, repo, commit(session, repo, content)) for content in (b"1", b"2")]
        assert [version.name for version in given] == ["v1", "v2"]
        assert versions.every(session, repo) == given
        versions.give(session, repo, commit(session, repo, b"3"), number=12)
        assert versions.next_version(session, repo) == 13

    def test_a_version_never_moves_but_may_be_given_again_to_the_same_content(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        repo = make_repo(session)
        one, two, same = (commit(session, repo, content) for content in (b"1", b"2", b"1"))
        given = versions.give(session, repo, one, number=1)
        assert versions.give(session, repo, same, number=1) == given
        with pytest.raises(VersionTaken, match="never moves") as caught:
            versions.give(session, repo, two, number=1)
        assert (caught.value.expected, caught.value.found) == (one.tree_digest, two.tree_digest)
        with pytest.raises(InvalidName, match="v0"):
            versions.give(session, repo, one, number=0)

    def test_a_deleted_version_is_recorded_and_only_its_content_gets_it_again(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        repo = make_repo(session)
        one, two = commit(session, repo, b"1"), commit(session, repo, b"2")
        versions.give(session, repo, one)
        versions.delete(session, repo, 1, actor="ann")
        assert versions.every(session, repo) == []
        (stone,) = tombstones.of(session, account_id=repo.account_id, repo_name="ADAPTER")
        assert (stone.number, stone.tree_digest, stone.cause, stone.deleted_by) == (
            1, one.tree_digest, "version deleted", "ann",
        )  # fmt: skip
        assert versions.next_version(session, repo) == 2
        with pytest.raises(VersionTaken, match="ann"):
            versions.give(session, repo, two, number=1)
        assert versions.give(session, repo, one, number=1).commit_id == one.commit_id
        with pytest.raises(NotFound, match="v9"):
            versions.delete(session, repo, 9, actor="ann")

    def test_a_repo_made_again_under_its_name_cannot_reuse_versions(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        old = make_repo(session, "sst")
        for content in (b"1", b"2"):
            versions.give(session, old, commit(session, old, content))
        versions.delete(session, old, 2, actor="ann")
        repos.delete(session, old, actor="ann")
        new = make_repo(session, "SST")
        other, same = commit(session, new, b"3"), commit(session, new, b"2")
        for number in (1, 2):
            with pytest.raises(VersionTaken):
                versions.give(session, new, other, number=number)
        assert versions.give(session, new, same, number=2).commit_id == same.commit_id
        assert versions.give(session, new, other).number == 3

    def test_a_version_that_an_alias_or_a_mix_needs_stays(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        repo, mix = make_repo(session, "parent"), make_repo(session, "mix")
        one, two = commit(session, repo, b"1"), commit(session, repo, b"2")
        for revision in (one, two):
            versions.give(session, repo, revision)
        aliases.promote(session, repo, one, "prod", actor="ann")
        parent = Parent(repo.id, two.id, two.commit_id, "", "local/parent", 1.0, "0" * 64, "0" * 64)
        result = commit(session, mix, b"3")
        compositions.record(session, result, Composition("exact", {}, {}, (parent,)))
        with pytest.raises(PinnedRevision, match="local/parent@prod") as by_alias:
            versions.delete(session, repo, 1, actor="ann")
        assert by_alias.value.pins == ("alias local/parent@prod",)
        with pytest.raises(PinnedRevision, match="local/mix") as by_mix:
            versions.delete(session, repo, 2, actor="ann")
        assert by_mix.value.pins == (f"mix local/mix@{result.commit_id[:7]}",)
        assert len(versions.every(session, repo)) == 2
        aliases.promote(session, repo, two, "prod", actor="ann")
        versions.delete(session, repo, 1, actor="ann")
        assert [version.number for version in versions.every(session, repo)] == [2]

    def test_versions_are_made_and_deleted_as_versions_only(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        repo = make_repo(session)
        versions.give(session, repo, commit(session, repo))
        with pytest.raises(InvalidName, match="version"):
            refs.delete_tag(session, repo, "v1")
        refs.create_tag(session, repo, "x", revision_id=revisions.resolve(session, repo).id)
        refs.delete_tag(session, repo, "x")
        assert [version.name for version in versions.every(session, repo)] == ["v1"]
