"""Accounts, repos, who sees what: with the real client."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from hub.actions import accounts as account_actions


def status(caught: pytest.ExceptionInfo[Any]) -> int:
    code: int = caught.value.response.status_code
    return code


def with_file(user: Any, name: str, **options: Any) -> str:
    """A repo of the user's with one text file."""
    repo = f"{user.name}/{name}"
    user.api.create_repo(repo, **options)
    user.api.upload_file(path_or_fileobj=io.BytesIO(b"hello"), path_in_repo="a.txt", repo_id=repo)
    return repo


@pytest.mark.case(1)
def test_whoami_names_account_token_and_organisations(mode: str, live: Any, ann: Any) -> None:
    account_actions.create_org(live.home, f"org-{ann.name}", owner=ann.name)
    who = ann.api.whoami()
    assert who["name"] == ann.name and [org["name"] for org in who["orgs"]] == [f"org-{ann.name}"]
    assert who["auth"]["accessToken"]["role"] == "write"


@pytest.mark.case(1)
@pytest.mark.parametrize("token", ["mxh_" + "a" * 38, "hf_nothing", "x"])
def test_a_token_that_is_none_is_refused_everywhere(mode: str, live: Any, token: str) -> None:
    api = HfApi(endpoint=live.url, token=token)
    with pytest.raises(HfHubHTTPError, match=r"Invalid user token|Invalid credentials") as caught:
        api.whoami()
    assert status(caught) == 401
    with pytest.raises(HfHubHTTPError):
        list(api.list_models())


def test_a_revoked_token_is_refused(live: Any, ann: Any) -> None:
    token = account_actions.list_tokens(live.home, ann.name)[0]
    account_actions.revoke_token(live.home, token.id)
    with pytest.raises(HfHubHTTPError):
        ann.api.whoami()


@pytest.mark.case(2, 3)
def test_a_new_repo_has_a_revision_at_once(mode: str, ann: Any) -> None:
    url = ann.api.create_repo(f"{ann.name}/new")
    assert url.repo_id == f"{ann.name}/new"
    info = ann.api.model_info(f"{ann.name}/new")
    assert len(info.sha) == 40 and info.siblings == [] and not info.private


@pytest.mark.case(2)
def test_a_repo_that_exists_is_a_conflict_unless_that_is_fine(mode: str, ann: Any) -> None:
    ann.api.create_repo(f"{ann.name}/twice")
    with pytest.raises(HfHubHTTPError) as caught:
        ann.api.create_repo(f"{ann.name}/TWICE")
    assert status(caught) == 409
    assert ann.api.create_repo(f"{ann.name}/twice", exist_ok=True).repo_id == f"{ann.name}/twice"


@pytest.mark.case(2)
def test_without_a_namespace_it_is_the_caller_s_and_foreign_ones_are_refused(mode: str, ann: Any, bob: Any) -> None:
    assert ann.api.create_repo("bare").repo_id == f"{ann.name}/bare"
    for name in (f"{bob.name}/mine", "nobody-has-this/mine"):
        with pytest.raises(HfHubHTTPError) as caught:
            ann.api.create_repo(name)
        assert status(caught) == 403


@pytest.mark.case(2)
@pytest.mark.parametrize("body", [{"private": True}, {"visibility": "private"}])
def test_private_is_said_by_old_and_new_clients(mode: str, ann: Any, bob: Any, body: dict[str, Any]) -> None:
    httpx2.post(
        f"{ann.url}/api/repos/create", json={"name": "secret", "organization": None, **body},
        headers={"authorization": f"Bearer {ann.token}"},
    ).raise_for_status()  # fmt: skip
    assert ann.api.model_info(f"{ann.name}/secret").private
    assert not bob.api.repo_exists(f"{ann.name}/secret")


@pytest.mark.case(27)
def test_a_private_repo_is_the_same_as_none_to_strangers(mode: str, ann: Any, bob: Any, live: Any) -> None:
    repo, missing = with_file(ann, "hidden", private=True), f"{ann.name}/missing"
    nobody = HfApi(endpoint=live.url, token=False)
    for api, code in ((bob.api, 404), (nobody, 401)):
        for call in (
            lambda api, name: api.model_info(name),
            lambda api, name: api.hf_hub_download(name, "a.txt"),
            lambda api, name: list(api.list_repo_tree(name)),
            lambda api, name: api.list_repo_refs(name),
            lambda api, name: api.list_repo_commits(name),
            lambda api, name: api.get_paths_info(name, ["a.txt"]),
            lambda api, name: api.auth_check(name),
            lambda api, name: api.create_tag(name, tag="t"),
            lambda api, name: api.delete_repo(name),
        ):
            answers = []
            for name in (repo, missing):
                with pytest.raises(RepositoryNotFoundError) as caught:
                    call(api, name)
                response = caught.value.response
                answers.append((response.status_code, response.text.replace(name, "NAME")))
            assert answers[0] == answers[1] and answers[0][0] == code
    assert repo not in [m.id for m in bob.api.list_models(author=ann.name)]
    assert repo in [m.id for m in ann.api.list_models(author=ann.name)]


@pytest.mark.case(28)
def test_gated_files_are_for_those_who_were_let_in(mode: str, ann: Any, bob: Any) -> None:
    repo = with_file(ann, "gated")
    ann.api.update_repo_settings(repo, gated="manual", private=False)
    assert bob.api.model_info(repo).gated == "manual"
    with pytest.raises(GatedRepoError):
        bob.api.hf_hub_download(repo, "a.txt")
    with pytest.raises(GatedRepoError):
        bob.api.auth_check(repo)
    ann.api.grant_access(repo, bob.name)
    assert Path(bob.api.hf_hub_download(repo, "a.txt")).read_bytes() == b"hello"
    assert Path(ann.api.hf_hub_download(repo, "a.txt")).read_bytes() == b"hello"


@pytest.mark.case(28)
def test_settings_change_one_thing_at_a_time(mode: str, ann: Any) -> None:
    repo = with_file(ann, "settings")
    ann.api.update_repo_settings(repo, gated="auto")
    ann.api.update_repo_settings(repo, private=True)
    info = ann.api.model_info(repo)
    assert (info.gated, info.private) == ("auto", True)
    ann.api.update_repo_settings(repo, gated=False)
    assert ann.api.model_info(repo).gated is False


@pytest.mark.case(29)
def test_a_token_that_reads_changes_nothing(mode: str, live: Any, ann: Any) -> None:
    repo = with_file(ann, "readonly")
    reader = live.token_of(ann.name, role="read").api
    assert Path(reader.hf_hub_download(repo, "a.txt")).read_bytes() == b"hello"
    for call in (
        lambda: reader.upload_file(path_or_fileobj=b"x", path_in_repo="b.txt", repo_id=repo),
        lambda: reader.create_tag(repo, tag="t"),
        lambda: reader.create_branch(repo, branch="b"),
        lambda: reader.delete_repo(repo),
        lambda: reader.update_repo_settings(repo, private=True),
        lambda: reader.create_repo(f"{ann.name}/other"),
        lambda: reader.auth_check(repo, write=True),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            call()
        assert status(caught) == 403
    ann.api.auth_check(repo, write=True)


def test_a_token_for_one_namespace_sees_nothing_else(live: Any, ann: Any) -> None:
    account_actions.create_org(live.home, f"o-{ann.name}", owner=ann.name)
    private = with_file(ann, "own", private=True)
    confined = live.token_of(ann.name, namespace=f"o-{ann.name}").api
    confined.create_repo(f"o-{ann.name}/inside", private=True)
    assert not confined.repo_exists(private)
    with pytest.raises(HfHubHTTPError):
        confined.create_repo(f"{ann.name}/outside")


def test_members_have_the_role_that_they_were_given(live: Any, ann: Any, bob: Any) -> None:
    org = f"team-{ann.name}"
    account_actions.create_org(live.home, org, owner=ann.name)
    ann.api.create_repo(f"{org}/shared", private=True)
    assert not bob.api.repo_exists(f"{org}/shared")
    account_actions.put_member(live.home, org, user=bob.name, role="read")
    assert bob.api.repo_exists(f"{org}/shared")
    with pytest.raises(HfHubHTTPError):
        bob.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=f"{org}/shared")
    account_actions.put_member(live.home, org, user=bob.name, role="write")
    bob.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=f"{org}/shared")
    with pytest.raises(HfHubHTTPError):
        bob.api.delete_repo(f"{org}/shared")
    account_actions.put_member(live.home, org, user=bob.name, role=None)
    assert not bob.api.repo_exists(f"{org}/shared")


@pytest.mark.case(31)
def test_a_moved_repo_is_found_under_both_names(mode: str, ann: Any) -> None:
    repo = with_file(ann, "before")
    ann.api.move_repo(repo, f"{ann.name}/after")
    assert ann.api.model_info(repo).id == f"{ann.name}/after"
    assert Path(ann.api.hf_hub_download(repo, "a.txt")).read_bytes() == b"hello"
    assert Path(ann.api.snapshot_download(f"{ann.name}/after"), "a.txt").read_bytes() == b"hello"
    ann.api.create_repo(f"{ann.name}/other")
    with pytest.raises(HfHubHTTPError):
        ann.api.move_repo(f"{ann.name}/other", f"{ann.name}/after")


@pytest.mark.case(41)
def test_a_deleted_name_can_be_used_again_and_has_another_history(mode: str, ann: Any) -> None:
    repo = with_file(ann, "gone")
    old = ann.api.model_info(repo).sha
    ann.api.delete_repo(repo)
    with pytest.raises(RepositoryNotFoundError):
        ann.api.delete_repo(repo)
    ann.api.delete_repo(repo, missing_ok=True)
    assert not ann.api.repo_exists(repo)
    ann.api.create_repo(repo)
    assert ann.api.list_repo_files(repo) == []
    with pytest.raises(RevisionNotFoundError):
        ann.api.model_info(repo, revision=old)


@pytest.mark.case(39)
def test_squashing_keeps_the_files_and_the_tags(mode: str, ann: Any) -> None:
    repo = with_file(ann, "squash")
    ann.api.upload_file(path_or_fileobj=b"second", path_in_repo="b.txt", repo_id=repo)
    ann.api.create_tag(repo, tag="before")
    old = ann.api.model_info(repo).sha
    ann.api.super_squash_history(repo)
    assert len(ann.api.list_repo_commits(repo)) == 1
    assert sorted(ann.api.list_repo_files(repo)) == ["a.txt", "b.txt"]
    assert ann.api.model_info(repo, revision="before").sha == old
    assert Path(ann.api.hf_hub_download(repo, "b.txt", revision=old)).read_bytes() == b"second"


def test_a_duplicate_has_the_files_and_leaves_the_original(ann: Any, bob: Any) -> None:
    repo = with_file(ann, "original")
    bob.api.duplicate_repo(repo, f"{bob.name}/copy")
    assert Path(bob.api.hf_hub_download(f"{bob.name}/copy", "a.txt")).read_bytes() == b"hello"
    bob.api.create_commit(f"{bob.name}/copy", [CommitOperationAdd("b.txt", b"b")], commit_message="more")
    assert ann.api.list_repo_files(repo) == ["a.txt"]


def test_kinds_that_are_not_kept_are_refused_in_words(ann: Any) -> None:
    with pytest.raises(HfHubHTTPError, match="keeps models"):
        ann.api.create_repo(f"{ann.name}/data", repo_type="dataset")
    assert not ann.api.repo_exists(f"{ann.name}/data", repo_type="dataset")
