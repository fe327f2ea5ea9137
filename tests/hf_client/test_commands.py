"""Commands on the home of a running server: what an operator does, clients see at once. And signing in."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError


@pytest.fixture
def run(mixhub: Callable[..., Any], live: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command line on the live server's home."""
    monkeypatch.setenv("MIXHUB_HOME", str(live.home.directory))
    return mixhub


@pytest.fixture
def repo(ann: Any) -> str:
    """A repo with the tags v1 ... v3."""
    name = f"{ann.name}/model"
    ann.api.create_repo(name)
    for i in range(1, 4):
        ann.api.upload_file(path_or_fileobj=f"{i}".encode(), path_in_repo="a.txt", repo_id=name)
        ann.api.create_tag(name, tag=f"v{i}")
    return name


def promote(user: Any, repo: str, alias: str, revision: str) -> int:
    url = f"{user.url}/api/v1/repos/{repo}/aliases/{alias}/promote"
    headers = {"authorization": f"Bearer {user.token}"}
    return httpx2.post(url, json={"revision": revision}, headers=headers, timeout=60).status_code


@pytest.fixture
def token_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process's client keeps tokens, with none set by the environment."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "hf" / "stored_tokens"))
    return Path(constants.HF_TOKEN_PATH)


def test_login_keeps_the_token_where_stock_clients_look_and_for_the_owner_only(
    run: Callable[..., Any], live: Any, ann: Any, token_files: Path
) -> None:
    done = run("login", f"{live.url}/", "--token", ann.token)
    assert done.code == 0, done.err
    assert f"signed in as {ann.name}" in done.out and f"HF_ENDPOINT={live.url}" in done.out
    assert ann.token not in done.out + done.err
    assert token_files.read_text() == ann.token == get_token()
    assert stat.S_IMODE(token_files.stat().st_mode) == 0o600
    assert HfApi(endpoint=live.url).whoami()["name"] == ann.name  # a client that was told nothing but the address


def test_login_says_so_where_the_environment_goes_first(
    run: Callable[..., Any], live: Any, ann: Any, bob: Any, token_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", bob.token)
    assert "HF_TOKEN is set" in run("login", live.url, "--token", ann.token).err
    assert token_files.read_text() == ann.token and get_token() == bob.token


def test_a_login_that_fails_says_why_and_keeps_the_old_token(
    run: Callable[..., Any], live: Any, ann: Any, token_files: Path
) -> None:
    assert run("login", live.url, "--token", ann.token).code == 0
    wrong = run("login", live.url, "--token", "mxh_" + "a" * 38)
    assert wrong.code == 2 and "does not take this token" in wrong.err and "mixhub token create" in wrong.err
    nobody = run("login", "http://127.0.0.1:9", "--token", ann.token)
    assert nobody.code == 1 and "http://127.0.0.1:9" in nobody.err and "mixhub serve" in nobody.err
    assert get_token() == ann.token


def test_a_token_is_made_listed_and_refused_as_soon_as_it_is_revoked(
    run: Callable[..., Any], live: Any, ann: Any
) -> None:
    made = run("token", "create", "--user", ann.name, "--role", "read", "--name", "ci", "--json").json
    api = HfApi(endpoint=live.url, token=made["token"])
    assert api.whoami()["auth"]["accessToken"] | {"createdAt": ""} == {
        "displayName": "ci", "role": "read", "createdAt": "",
    }  # fmt: skip
    listed = {one["name"]: one for one in run("token", "list", "--user", ann.name, "--json").json}
    assert listed["ci"]["id"] == made["id"] and listed["ci"]["state"] == "valid" and len(listed) == 2
    assert run("token", "revoke", made["id"]).code == 0
    with pytest.raises(HfHubHTTPError):
        api.whoami()
    assert ann.api.whoami()["name"] == ann.name
    missing = run("token", "revoke", 10**6)
    assert missing.code == 1 and "mixhub token list" in missing.err


def test_a_token_for_a_day_and_for_one_namespace(run: Callable[..., Any], live: Any, ann: Any, bob: Any) -> None:
    org = f"only-{ann.name}"
    assert run("org", "create", org, "--owner", ann.name).code == 0
    words = ("token", "create", "--user", ann.name, "--role", "write")
    confined = HfApi(endpoint=live.url, token=run(*words, "--namespace", org).out.strip())
    confined.create_repo(f"{org}/inside")
    with pytest.raises(HfHubHTTPError):
        confined.create_repo(f"{ann.name}/outside")
    ended = HfApi(endpoint=live.url, token=run(*words, "--days", "0").out.strip())
    with pytest.raises(HfHubHTTPError):
        ended.whoami()


def test_organisations_share_what_their_members_may(run: Callable[..., Any], ann: Any, bob: Any) -> None:
    org = f"team-{ann.name}"
    assert run("org", "create", org, "--owner", ann.name).code == 0
    assert run("org", "create", org, "--owner", bob.name).code == 1
    ann.api.create_repo(f"{org}/shared", private=True)
    assert not bob.api.repo_exists(f"{org}/shared")
    assert run("org", "add", org, "--user", bob.name, "--role", "read").code == 0
    assert bob.api.repo_exists(f"{org}/shared")
    assert run("org", "add", org, "--user", bob.name, "--role", "owner").code == 2
    assert run("org", "remove", org, "--user", bob.name).code == 0
    assert not bob.api.repo_exists(f"{org}/shared")
    assert run("org", "add", ann.name, "--user", bob.name).code == 2  # a person is no organisation


def test_promote_and_rollback_move_what_clients_read(run: Callable[..., Any], ann: Any, repo: str) -> None:
    for version in ("v1", "v3"):
        assert run("promote", f"{repo}@{version}", "prod").code == 0
        assert ann.api.model_info(repo, revision="prod").sha == ann.api.model_info(repo, revision=version).sha
    assert run("rollback", repo, "prod").code == 0
    assert ann.api.model_info(repo, revision="prod").sha == ann.api.model_info(repo, revision="v1").sha
    assert run("rollback", repo, "prod").code == 1
    moves = run("history", repo, "prod", "--json").json
    assert [(one["action"], one["label"]) for one in moves] == [
        ("promote", "v1"), ("promote", "v3"), ("rollback", "v1"),
    ]  # fmt: skip
    assert run("promote", f"{repo}@v9", "prod").code == 1


def test_protect_leaves_an_alias_to_admins(run: Callable[..., Any], live: Any, ann: Any, bob: Any) -> None:
    org = f"guard-{ann.name}"
    run("org", "create", org, "--owner", ann.name)
    run("org", "add", org, "--user", bob.name, "--role", "write")
    repo = f"{org}/model"
    bob.api.create_repo(repo)
    assert promote(bob, repo, "prod", "main") == 200
    assert run("protect", repo, "prod", "--role", "admin").code == 0
    assert promote(bob, repo, "prod", "main") == 403 and promote(ann, repo, "prod", "main") == 200
    assert promote(bob, repo, "staging", "main") == 200
    assert run("protect", repo, "prod", "--role", "write").code == 0
    assert promote(bob, repo, "prod", "main") == 200
    assert run("protect", repo, "prod", "--role", "everybody").code == 2


def test_processes_and_requests_that_promote_at_once_leave_one_history(live: Any, ann: Any, repo: str) -> None:
    """Command lines of their own processes on the same home, while the server takes promotions of the same alias."""
    environment = {**os.environ, "MIXHUB_HOME": str(live.home.directory)}

    def by_command(i: int) -> int:
        command = [sys.executable, "-m", "hub.cli.main", "promote", f"{repo}@v{1 + i % 3}", "prod"]
        return subprocess.run(command, env=environment, capture_output=True).returncode

    def by_request(i: int) -> int:
        return promote(ann, repo, "prod", f"v{1 + i % 3}") - 200

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(by_command, i) for i in range(3)] + [pool.submit(by_request, i) for i in range(30)]
        assert {one.result() for one in done} == {0}
    url = f"{live.url}/api/v1/repos/{repo}/aliases/prod/history"
    events = httpx2.get(url, headers={"authorization": f"Bearer {ann.token}"}).json()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert all(a["commit"] != b["commit"] for a, b in itertools.pairwise(events))
    assert {event["actor"] for event in events} <= {"local", ann.name}
    assert events[-1]["commit"] == ann.api.model_info(repo, revision="prod").sha
