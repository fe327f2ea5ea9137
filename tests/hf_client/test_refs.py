"""Branches, tags, versions, aliases, pull requests and the log, with the real client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RevisionNotFoundError

from hub.actions import aliases as alias_actions
from hub.address import parse_address


@pytest.fixture
def repo(ann: Any) -> str:
    """Two commits of a.txt: `one`, tagged v1, and `two`."""
    name = f"{ann.name}/refs"
    ann.api.create_repo(name)
    ann.api.upload_file(path_or_fileobj=b"one", path_in_repo="a.txt", repo_id=name)
    ann.api.create_tag(name, tag="v1", tag_message="the first")
    ann.api.upload_file(path_or_fileobj=b"two", path_in_repo="a.txt", repo_id=name)
    return name


def read(user: Any, repo: str, revision: str | None = None, path: str = "a.txt") -> bytes:
    return Path(user.api.hf_hub_download(repo, path, revision=revision)).read_bytes()


@pytest.mark.case(12)
def test_a_revision_by_every_name_it_has(mode: str, ann: Any, repo: str) -> None:
    first = ann.api.model_info(repo, revision="v1").sha
    assert read(ann, repo) == b"two"
    for name in ("v1", first, first[:8], "refs/tags/v1"):
        assert read(ann, repo, name) == b"one"
    for name in ("v1", first, first[:8]):
        assert Path(ann.api.snapshot_download(repo, revision=name), "a.txt").read_bytes() == b"one"
    assert Path(ann.api.snapshot_download(repo), "a.txt").read_bytes() == b"two"
    assert read(ann, repo, "refs/heads/main") == b"two"


@pytest.mark.case(11)
def test_tags_are_made_once(mode: str, ann: Any, repo: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        ann.api.create_tag(repo, tag="v1")
    assert caught.value.response.status_code == 409
    ann.api.create_tag(repo, tag="v1", exist_ok=True)
    ann.api.create_tag(repo, tag="release")
    ann.api.delete_tag(repo, tag="release")
    with pytest.raises(RevisionNotFoundError):
        ann.api.delete_tag(repo, tag="release")
    with pytest.raises(RevisionNotFoundError):
        ann.api.create_tag(repo, tag="x", revision="nowhere")


def test_a_version_never_becomes_other_content(ann: Any, repo: str) -> None:
    ann.api.delete_tag(repo, tag="v1")
    with pytest.raises(HfHubHTTPError, match="never given to other content"):
        ann.api.create_tag(repo, tag="v1")


@pytest.mark.case(16)
def test_a_branch_with_a_slash_from_start_to_end(mode: str, ann: Any, repo: str) -> None:
    ann.api.create_branch(repo, branch="feat/x", revision="v1")
    with pytest.raises(HfHubHTTPError):
        ann.api.create_branch(repo, branch="feat/x")
    ann.api.create_branch(repo, branch="feat/x", exist_ok=True)
    assert read(ann, repo, "feat/x") == b"one"
    ann.api.upload_file(path_or_fileobj=b"b", path_in_repo="d/b.txt", repo_id=repo, revision="feat/x")
    assert read(ann, repo, "feat/x", "d/b.txt") == b"b"
    assert ann.api.list_repo_files(repo) == ["a.txt"]
    ann.api.delete_file("a.txt", repo, revision="feat/x")
    ann.api.delete_folder("d", repo, revision="feat/x")
    assert ann.api.list_repo_files(repo, revision="feat/x") == []
    ann.api.delete_branch(repo, branch="feat/x")
    with pytest.raises(RevisionNotFoundError):
        ann.api.delete_branch(repo, branch="feat/x")
    with pytest.raises(HfHubHTTPError) as caught:
        ann.api.delete_branch(repo, branch="main")
    assert caught.value.response.status_code == 403


def test_only_branches_take_commits(ann: Any, repo: str) -> None:
    first = ann.api.model_info(repo, revision="v1").sha
    for name in ("v1", first):
        with pytest.raises(BadRequestError, match="only a branch takes commits"):
            ann.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, revision=name)
    with pytest.raises(RevisionNotFoundError):
        ann.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, revision="nowhere")


def test_an_alias_is_a_revision_that_only_promoting_moves(mode: str, live: Any, ann: Any, repo: str) -> None:
    alias_actions.promote(live.home, parse_address(f"{repo}@v1"), "prod")
    assert read(ann, repo, "prod") == b"one"
    assert Path(ann.api.snapshot_download(repo, revision="prod"), "a.txt").read_bytes() == b"one"
    with pytest.raises(BadRequestError, match="alias"):
        ann.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, revision="prod")
    for change in (
        lambda: ann.api.create_branch(repo, branch="prod"),
        lambda: ann.api.create_tag(repo, tag="prod"),
        lambda: ann.api.delete_branch(repo, branch="prod"),
        lambda: ann.api.delete_tag(repo, tag="prod"),
        lambda: ann.api.super_squash_history(repo, branch="prod"),
        lambda: ann.api.delete_file("a.txt", repo, revision="prod"),
    ):
        with pytest.raises(HfHubHTTPError):
            change()
    assert read(ann, repo, "prod") == b"one"
    alias_actions.promote(live.home, parse_address(f"{repo}@main"), "prod")
    assert read(ann, repo, "prod") == b"two"
    alias_actions.rollback(live.home, parse_address(repo), "prod")
    assert ann.api.model_info(repo, revision="prod").sha == ann.api.model_info(repo, revision="v1").sha


@pytest.mark.case(20)
def test_refs_are_listed_by_kind(mode: str, ann: Any, repo: str) -> None:
    ann.api.create_branch(repo, branch="dev")
    ann.api.create_pull_request(repo, title="a change")
    refs = ann.api.list_repo_refs(repo, include_pull_requests=True)
    assert sorted(ref.name for ref in refs.branches) == ["dev", "main"]
    assert [(ref.name, ref.ref) for ref in refs.tags] == [("v1", "refs/tags/v1")]
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1"]
    assert {ref.target_commit for ref in refs.branches} == {ann.api.model_info(repo).sha}


@pytest.mark.case(20)
def test_the_log_is_newest_first_and_paged(mode: str, ann: Any, repo: str) -> None:
    for i in range(6):  # a page of this server has three
        ann.api.upload_file(
            path_or_fileobj=str(i).encode(), path_in_repo="a.txt", repo_id=repo, commit_message=f"change {i}"
        )
    log = ann.api.list_repo_commits(repo)
    assert [one.title for one in log][:6] == [f"change {i}" for i in reversed(range(6))]
    assert len(log) == 9 and log[0].authors == [ann.name]
    assert log[0].commit_id == ann.api.model_info(repo).sha


@pytest.mark.case(24)
@pytest.mark.parametrize("how", ["file", "folder"])
def test_anybody_who_is_signed_in_may_propose_a_change(
    mode: str, how: str, ann: Any, bob: Any, repo: str, tmp_path: Path
) -> None:
    if how == "file":
        done = bob.api.upload_file(path_or_fileobj=b"new", path_in_repo="n.txt", repo_id=repo, create_pr=True)
    else:
        (tmp_path / "up").mkdir()
        (tmp_path / "up" / "n.txt").write_bytes(b"new")
        done = bob.api.upload_folder(folder_path=tmp_path / "up", repo_id=repo, create_pr=True)
    assert done.pr_num == 1 and done.pr_revision == "refs/pr/1"
    assert read(bob, repo, "refs/pr/1", "n.txt") == b"new"
    assert ann.api.list_repo_files(repo) == ["a.txt"]
    with pytest.raises(HfHubHTTPError):
        bob.api.merge_pull_request(repo, 1)
    ann.api.merge_pull_request(repo, 1)
    assert read(ann, repo, None, "n.txt") == b"new" and read(ann, repo) == b"two"
    assert ann.api.get_discussion_details(repo, 1).status == "merged"


def test_a_stranger_cannot_add_to_another_s_proposal(live: Any, ann: Any, bob: Any, repo: str) -> None:
    bob.api.upload_file(path_or_fileobj=b"new", path_in_repo="n.txt", repo_id=repo, create_pr=True)
    eve = live.user()
    with pytest.raises(HfHubHTTPError) as caught:
        eve.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, revision="refs/pr/1")
    assert caught.value.response.status_code == 403
    bob.api.upload_file(path_or_fileobj=b"more", path_in_repo="m.txt", repo_id=repo, revision="refs/pr/1")
    ann.api.change_discussion_status(repo, 1, "closed")
    with pytest.raises(HfHubHTTPError):
        bob.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, revision="refs/pr/1")


@pytest.mark.case(22)
def test_what_exists_and_what_does_not(mode: str, ann: Any, repo: str) -> None:
    assert ann.api.repo_exists(repo) and not ann.api.repo_exists(f"{ann.name}/none")
    assert ann.api.revision_exists(repo, "v1") and not ann.api.revision_exists(repo, "v9")
    assert ann.api.file_exists(repo, "a.txt") and not ann.api.file_exists(repo, "b.txt")
    assert not ann.api.file_exists(f"{ann.name}/none", "a.txt")
