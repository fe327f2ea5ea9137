"""What clients do when the server says wait, or cannot answer."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import _http
from sqlalchemy.exc import OperationalError

from hub.home import Home
from storage import accounts


@pytest.fixture
def limited(serve_with: Any) -> Any:
    """A user of a server with 60 requests a minute, with two repos."""
    user = serve_with(requests_per_minute=60, page_size=1).user()
    for name in ("one", "two"):
        user.api.create_repo(f"{user.name}/{name}")
    user.api.upload_file(path_or_fileobj=b"hello", path_in_repo="a.txt", repo_id=f"{user.name}/one")
    return user


def use_up(user: Any) -> httpx2.Response:
    """Ask until the server refuses; the refusal."""
    with httpx2.Client(headers={"authorization": f"Bearer {user.token}"}) as client:
        for _ in range(200):
            answer = client.get(f"{user.url}/api/models?limit=1")
            if answer.status_code != 200:
                return answer
    raise AssertionError("nothing was refused")


@pytest.mark.case(38)
def test_clients_wait_as_long_as_they_are_told_and_then_go_on(
    mode: str, limited: Any, sent: list[httpx2.Request], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    refused = use_up(limited)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert "60 requests a minute" in refused.json()["error"] and refused.headers["x-request-id"]
    listed = [m.id for m in limited.api.list_models(author=limited.name)]
    assert listed == [f"{limited.name}/one", f"{limited.name}/two"]
    assert any("Rate limited" in one.getMessage() for one in caplog.records)
    use_up(limited)
    with pytest.raises(HfHubHTTPError, match="requests a minute") as caught:
        limited.api.create_tag(f"{limited.name}/one", tag="t")  # what changes something is not repeated
    assert caught.value.response.status_code == 429
    time.sleep(1.05)  # one request is free again: the HEAD takes it, the GET waits
    sent.clear()
    assert Path(limited.api.hf_hub_download(f"{limited.name}/one", "a.txt")).read_bytes() == b"hello"
    # a machine that is slow enough has earned the GET meanwhile
    assert [one.method for one in sent] in (["HEAD", "GET", "GET"], ["HEAD", "GET"])


def test_one_caller_s_requests_are_not_another_s(serve_with: Any) -> None:
    live = serve_with(requests_per_minute=60)
    ann, bob = live.user(), live.user()
    assert ann.api.whoami() and bob.api.whoami()
    assert use_up(ann).status_code == 429
    assert bob.api.whoami()["name"] == bob.name
    assert httpx2.get(f"{live.url}/healthz").status_code == 200


@pytest.mark.case(38)
def test_when_the_database_is_gone_clients_use_what_they_have_and_try_again(
    mode: str, ann: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = f"{ann.name}/known"
    ann.api.create_repo(repo)
    for name in ("a.txt", "b.txt"):
        ann.api.upload_file(path_or_fileobj=name.encode(), path_in_repo=name, repo_id=repo)
    ann.api.hf_hub_download(repo, "a.txt")
    waited: list[float] = []

    def broken(_self: Home) -> Any:
        raise OperationalError("SELECT", {}, Exception("the disk is gone"))

    with pytest.MonkeyPatch.context() as database:

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            database.undo()  # meanwhile the database is back

        database.setattr(Home, "read", broken)
        monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=sleep))
        answer = httpx2.head(f"{ann.url}/{repo}/resolve/main/a.txt")
        assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
        assert answer.headers["x-request-id"] and "x-error-code" not in answer.headers
        assert Path(ann.api.hf_hub_download(repo, "a.txt")).read_bytes() == b"a.txt"
        assert waited == []
        assert Path(ann.api.hf_hub_download(repo, "b.txt")).read_bytes() == b"b.txt"
        assert waited == [6.0]


def test_who_waits_too_long_for_a_turn_to_write_is_told_when_to_come_back(
    live: Any, ann: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = {"headers": {"authorization": f"Bearer {ann.token}"}, "json": {"name": "late", "type": "model"}}
    with monkeypatch.context() as hurried, live.home.write() as session:
        accounts.ensure(session, f"{ann.name}-writes")
        hurried.setattr("storage.database.BUSY_TIMEOUT_MS", 10)
        refused = httpx2.post(f"{ann.url}/api/repos/create", **sent)
        assert httpx2.get(f"{ann.url}/api/models?author={ann.name}").json() == []  # readers need no turn
    assert refused.status_code == 503 and refused.headers["retry-after"] == "5"
    assert refused.json()["error"] == "Others have been writing to the database for 0 s. Try again."
    assert httpx2.post(f"{ann.url}/api/repos/create", **sent).status_code == 200
