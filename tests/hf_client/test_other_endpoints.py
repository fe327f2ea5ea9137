"""Endpoints that the flows of the other files pass by: overviews, storage, formatted logs, other ways to ask."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

from hub.actions import accounts as account_actions


@pytest.fixture
def repo(ann: Any) -> str:
    name = f"{ann.name}/model"
    ann.api.create_repo(name)
    ann.api.create_commit(
        name, [CommitOperationAdd("a.txt", b"hello"), CommitOperationAdd("sub/b.txt", b"x")], commit_message="Title",
        commit_description="More <b>words</b>.",
    )  # fmt: skip
    return name


def bearer(user: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {user.token}"}


def test_overviews_count_what_the_asker_may_see(live: Any, ann: Any, bob: Any, repo: str) -> None:
    ann.api.create_repo(f"{ann.name}/hidden", private=True)
    assert ann.api.get_user_overview(ann.name).num_models == 2
    assert bob.api.get_user_overview(ann.name).num_models == 1
    account_actions.create_org(live.home, f"o-{ann.name}", owner=ann.name)
    assert bob.api.get_organization_overview(f"o-{ann.name}").name == f"o-{ann.name}"
    with pytest.raises(HfHubHTTPError) as caught:
        bob.api.get_user_overview("nobody-at-all")
    assert caught.value.response.status_code == 404


def test_storage_is_what_all_commits_hold_each_content_once(live: Any, ann: Any, bob: Any, repo: str) -> None:
    ann.api.upload_file(path_or_fileobj=b"hello again", path_in_repo="a.txt", repo_id=repo)
    ann.api.upload_file(path_or_fileobj=b"hello", path_in_repo="copy.txt", repo_id=repo)
    (mine,) = ann.api.list_user_repos()
    assert (mine.id, mine.visibility, mine.storage) == (repo, "public", len("hello") + len("x") + len("hello again"))
    assert mine.storage_percent == 100
    assert mine.updated_at == ann.api.model_info(repo).last_modified
    account_actions.create_org(live.home, f"o-{ann.name}", owner=ann.name)
    ann.api.create_repo(f"o-{ann.name}/inside", private=True)
    assert [(one.id, one.storage) for one in ann.api.list_user_repos(f"o-{ann.name}")] == [(f"o-{ann.name}/inside", 0)]
    assert list(bob.api.list_user_repos(f"o-{ann.name}")) == []


def test_the_log_has_the_description_and_formats_it_when_asked(ann: Any, repo: str) -> None:
    plain, formatted = (ann.api.list_repo_commits(repo, formatted=wanted)[0] for wanted in (False, True))
    assert (plain.title, plain.message, plain.formatted_title) == ("Title", "More <b>words</b>.", None)
    assert formatted.formatted_title == "Title" and "<b>" not in formatted.formatted_message


def test_paths_may_be_asked_for_as_json_too(ann: Any, repo: str) -> None:
    url = f"{ann.url}/api/models/{repo}/paths-info/main"
    as_form = httpx2.post(url, data={"paths": ["a.txt", "sub", "none"], "expand": "true"})
    as_json = httpx2.post(url, json={"paths": ["a.txt", "sub", "none"], "expand": True})
    assert as_form.json() == as_json.json() and [one["path"] for one in as_json.json()] == ["a.txt", "sub"]
    assert all(one["lastCommit"]["title"] == "Title" for one in as_json.json())
    for body in (b"[]", b"3", b'{"paths": 3}', b"{"):
        refused = httpx2.post(url, content=body, headers={"content-type": "application/json"})
        assert refused.status_code == 400 and refused.json()["error"], body


def test_what_a_listing_does_not_know_is_passed_over(ann: Any, repo: str) -> None:
    asked: Any = {"author": ann.name, "apps": "vllm", "num_parameters": "min:1", "inference": "warm", "config": "true"}
    answer = httpx2.get(
        f"{ann.url}/api/models", params={**asked, "expand": ["siblings", "whatever"], "sort": "unheard"}
    )
    assert [one["id"] for one in answer.json()] == [repo] and answer.json()[0]["siblings"]
    assert httpx2.get(f"{ann.url}/api/models", params={"author": ann.name, "full": "True"}).json()[0]["siblings"]
    for sort in ("lastModified", "createdAt", "downloads", "likes", "trendingScore"):
        assert httpx2.get(f"{ann.url}/api/models", params={"author": ann.name, "sort": sort}).status_code == 200
    assert [m.id for m in ann.api.list_models(author=ann.name, gated=False)] == [repo]
    assert list(ann.api.list_models(author=ann.name, gated=True)) == []


def test_gated_files_ask_nobody_to_sign_in(live: Any, ann: Any, repo: str) -> None:
    ann.api.update_repo_settings(repo, gated="auto")
    with pytest.raises(GatedRepoError) as caught:
        HfApi(endpoint=live.url, token=False).hf_hub_download(repo, "a.txt")
    assert caught.value.response.status_code == 401
    with pytest.raises(GatedRepoError):
        HfApi(endpoint=live.url, token=False).file_exists(repo, "a.txt")


def test_gated_automatically_lets_in_who_asks(ann: Any, bob: Any, repo: str) -> None:
    ann.api.update_repo_settings(repo, gated="auto")
    asked = httpx2.post(f"{bob.url}/{repo}/ask-access", headers=bearer(bob))
    assert asked.json()["status"] == "accepted" and bob.api.file_exists(repo, "a.txt")
    assert [one.username for one in ann.api.list_accepted_access_requests(repo)] == [bob.name]
    ann.api.cancel_access_request(repo, bob.name)
    with pytest.raises(GatedRepoError):
        bob.api.file_exists(repo, "a.txt")


def test_what_is_asked_in_passing_is_answered_at_once(live: Any, ann: Any, repo: str) -> None:
    assert httpx2.get(f"{live.url}/api/agent-harnesses").json() == {"standardEnvVars": [], "harnesses": {}}
    for method, path in (
        ("GET", f"/api/models/{repo}/xet-read-token/main"), ("POST", f"/api/models/{repo}/lfs-files/duplicate"),
        ("GET", f"/api/models/{repo}/safetensors-metadata/model.safetensors"), ("POST", "/v1/telemetry"),
    ):  # fmt: skip
        answer = httpx2.request(method, live.url + path, headers=bearer(ann))
        assert answer.status_code == 404 and answer.json()["error"], path
