"""Moving aliases through the native API: who may, and that concurrent moves leave one history."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from hub.actions import accounts as account_actions


@pytest.fixture
def repo(live: Any, ann: Any) -> str:
    """An organisation's repo with the tags v1 ... v4."""
    account_actions.create_org(live.home, f"al-{ann.name}", owner=ann.name)
    name = f"al-{ann.name}/model"
    ann.api.create_repo(name)
    for i in range(1, 5):
        ann.api.upload_file(path_or_fileobj=f"{i}".encode(), path_in_repo="a.txt", repo_id=name)
        ann.api.create_tag(name, tag=f"v{i}")
    return name


def call(user: Any, method: str, repo: str, path: str, body: dict[str, str] | None = None) -> httpx2.Response:
    url = f"{user.url}/api/v1/repos/{repo}/aliases{path}"
    return httpx2.request(method, url, json=body, headers={"authorization": f"Bearer {user.token}"})


def test_promote_and_rollback_move_what_every_client_sees(ann: Any, repo: str) -> None:
    for version in ("v1", "v3"):
        moved = call(ann, "POST", repo, "/prod/promote", {"revision": version}).json()
        assert moved["commit"] == ann.api.model_info(repo, revision="prod").sha
        assert moved["commit"] == ann.api.model_info(repo, revision=version).sha
    back = call(ann, "POST", repo, "/prod/rollback").json()
    assert back["commit"] == ann.api.model_info(repo, revision="v1").sha == call(ann, "GET", repo, "").json()["prod"]
    assert [e["action"] for e in call(ann, "GET", repo, "/prod/history").json()] == ["promote", "promote", "rollback"]
    assert call(ann, "POST", repo, "/prod/promote", {"revision": "nowhere"}).status_code == 404
    assert call(ann, "POST", repo, "/v9/promote", {"revision": "v1"}).status_code == 400


def test_a_protected_alias_moves_for_admins_only(live: Any, ann: Any, bob: Any, repo: str) -> None:
    org = repo.partition("/")[0]
    assert call(bob, "POST", repo, "/prod/promote", {"revision": "v1"}).status_code == 403
    account_actions.put_member(live.home, org, user=bob.name, role="write")
    assert call(bob, "POST", repo, "/prod/promote", {"revision": "v1"}).status_code == 200
    assert call(bob, "PUT", repo, "/prod/protection", {"role": "admin"}).status_code == 403
    assert call(ann, "PUT", repo, "/prod/protection", {"role": "admin"}).status_code == 200
    assert call(bob, "POST", repo, "/prod/promote", {"revision": "v2"}).status_code == 403
    assert call(bob, "POST", repo, "/prod/rollback").status_code == 403
    assert call(bob, "POST", repo, "/staging/promote", {"revision": "v2"}).status_code == 200
    assert call(ann, "POST", repo, "/prod/promote", {"revision": "v2"}).status_code == 200


def test_promotions_at_once_leave_one_linear_history(ann: Any, repo: str) -> None:
    def move(i: int) -> int:
        return call(ann, "POST", repo, "/prod/promote", {"revision": f"v{1 + i % 4}"}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(move, range(24))) == {200}
    events = call(ann, "GET", repo, "/prod/history").json()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert all(a["commit"] != b["commit"] for a, b in itertools.pairwise(events))
    assert events[-1]["commit"] == ann.api.model_info(repo, revision="prod").sha
