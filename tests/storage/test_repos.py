from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from storage import accounts, repos, versions
from storage.errors import AlreadyExists, Conflict, InvalidName, NotFound, VersionTaken
from storage.repos import Repo
from storage.revisions import Revision

MakeRepo = Callable[..., Repo]
Commit = Callable[..., Revision]


class TestAccounts:
    def test_a_fresh_home_gets_the_account_local_once(self, session: Session) -> None:
        first = accounts.ensure(session)
        assert first.name == "local"
        assert accounts.ensure(session) == first

    def test_account_names_are_unique_without_regard_to_case(self, session: Session) -> None:
        ann = accounts.ensure(session, "Ann")
        assert accounts.ensure(session, "aNN") == ann
        assert [account.name for account in accounts.every(session)] == ["Ann"]

    def test_a_missing_account_is_not_found_and_a_bad_name_refused(self, session: Session) -> None:
        with pytest.raises(NotFound, match="nobody"):
            accounts.find(session, "nobody")
        with pytest.raises(InvalidName, match="an account"):
            accounts.ensure(session, "a/b")


class TestRepos:
    def test_a_repo_is_found_by_name_whatever_the_case_and_keeps_its_spelling(
        self, session: Session, make_repo: MakeRepo
    ) -> None:
        made = make_repo(session, "My-LoRA", account="Ann", visibility="private")
        assert repos.find(session, "ann", "my-lora") == made == repos.by_uuid(session, made.uuid)
        assert (made.full_name, made.visibility, made.downloads) == ("Ann/My-LoRA", "private", 0)

    def test_the_same_name_in_another_case_is_taken(self, session: Session, make_repo: MakeRepo) -> None:
        make_repo(session, "sst")
        make_repo(session, "sst", account="other")
        with pytest.raises(AlreadyExists, match="local/SST"):
            make_repo(session, "SST")

    @pytest.mark.parametrize("name", ["", "a/b", "a--b", "x.git", "-a"])
    def test_bad_names_are_refused_and_nothing_is_made(self, session: Session, make_repo: MakeRepo, name: str) -> None:
        with pytest.raises(InvalidName):
            make_repo(session, name)
        assert repos.every(session) == []

    def test_a_deleted_repo_is_hidden_and_its_name_free(self, session: Session, make_repo: MakeRepo) -> None:
        old = make_repo(session, "sst")
        repos.delete(session, old, actor="ann")
        with pytest.raises(NotFound, match="local/sst"):
            repos.find(session, "local", "sst")
        assert repos.by_id(session, old.id).deleted_at is not None
        new = make_repo(session, "sst")
        assert new.uuid != old.uuid
        assert repos.every(session) == [new]
        with pytest.raises(NotFound, match="deleted"):
            repos.delete(session, old, actor="ann")

    def test_renaming_keeps_the_repo_and_refuses_a_taken_name(self, session: Session, make_repo: MakeRepo) -> None:
        one, other = make_repo(session, "one"), make_repo(session, "other", account="bob")
        with pytest.raises(AlreadyExists):
            repos.rename(session, one, account="bob", name="OTHER", actor="ann")
        moved = repos.rename(session, one, account="bob", name="two", actor="ann")
        assert (moved.full_name, moved.uuid) == ("bob/two", one.uuid)
        assert repos.every(session, account="BOB") == [other, moved]
        assert repos.rename(session, moved, name="Two", actor="ann").full_name == "bob/Two"
        with pytest.raises(Conflict, match="called bob/Two now"):
            repos.delete(session, one, actor="ann")

    def test_a_name_left_behind_never_gives_its_versions_to_other_content(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        old = make_repo(session, "sst")
        versions.give(session, old, commit(session, old, b"one"))
        repos.rename(session, old, name="sst2", actor="ann")
        new = make_repo(session, "sst")
        other = commit(session, new, b"two")
        with pytest.raises(VersionTaken, match="repo renamed"):
            versions.give(session, new, other, number=1)
        assert versions.give(session, new, other).number == 2
        repos.delete(session, new, actor="ann")
        back = repos.rename(session, repos.find(session, "local", "sst2"), name="sst", actor="ann")
        assert [version.number for version in versions.every(session, back)] == [1]

    def test_a_repo_cannot_move_to_a_name_whose_version_was_other_content(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        gone = make_repo(session, "gone")
        versions.give(session, gone, commit(session, gone, b"one"))
        repos.delete(session, gone, actor="ann")
        other = make_repo(session, "other")
        versions.give(session, other, commit(session, other, b"two"))
        with pytest.raises(VersionTaken, match="gone@v1"):
            repos.rename(session, other, name="gone", actor="ann")
        assert repos.find(session, "local", "other") == other

    def test_access_and_downloads_are_kept(self, session: Session, make_repo: MakeRepo) -> None:
        repo = make_repo(session)
        repos.count_download(session, repo)
        repos.count_download(session, repo)
        changed = repos.set_access(session, repo, visibility="private", gated="manual")
        assert (changed.visibility, changed.gated, changed.downloads) == ("private", "manual", 2)
