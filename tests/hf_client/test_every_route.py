"""What holds for every route of the app, whichever is added: the shape of errors, and that private names stay so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import text

from hub.app import create_app
from hub.settings import Settings
from storage import open_database

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
VALUES = {
    "rev": "main", "branch": "main", "tag": "v1", "path": "a.txt", "number": "1", "status": "pending", "alias": "prod",
    "answer": "handle", "version": "v1", "revision": "main",
}  # fmt: skip
"""What stands for a path parameter; in the repo that is asked for, all of it exists."""
BODIES: dict[str, Any] = {
    "/settings": {"visibility": "public"}, "/duplicate": {"repository": "{me}/copy"}, "/branch/": {},
    "/tag/": {"tag": "t"}, "/super-squash/": {}, "/user-access-request/": {"user": "{me}", "status": "accepted"},
    "/preupload/": {"files": [{"path": "a.txt", "size": 1, "sample": ""}]},
    "/commit/": b'{"key":"header","value":{"summary":"x"}}\n{"key":"deletedFile","value":{"path":"a.txt"}}\n',
    "/discussions/": {"status": "closed"}, "/discussions": {"title": "t", "pullRequest": True},
    "/lfs/objects/batch": {"operation": "upload", "objects": [{"oid": "1" * 64, "size": 1}]},
    "/paths-info/": {"paths": ["a.txt"]}, "/lfs-files/batch": {"deletions": {"sha": ["1" * 64]}},
    "/promote": {"revision": "main"}, "/protection": {"role": "admin"},
}  # fmt: skip
"""A body that the owner of a repo could send, by what the path contains; the first that fits."""


def routes() -> Iterator[tuple[str, str]]:
    """(path, method) of every route, parameters as `{name}`."""
    app = create_app(Settings(home=Path("/nonexistent")))
    for route in iter_route_contexts(app._app.routes):  # type: ignore[attr-defined]
        for method in sorted(route.methods or ()):
            yield re.sub(r":\w+}", "}", route.path or ""), method


def fill(path: str, **known: str) -> str:
    return re.sub(r"{(\w+)}", lambda found: known.get(found[1]) or VALUES.get(found[1]) or "x", path)


def bearer(user: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {user.token}"} if user else {}


@pytest.fixture
def private(ann: Any) -> str:
    """A private repo that has everything that a path can name."""
    repo = f"{ann.name}/hidden"
    ann.api.create_repo(repo, private=True)
    ann.api.upload_file(path_or_fileobj=b"secret words", path_in_repo="a.txt", repo_id=repo)
    ann.api.create_tag(repo, tag="v1")
    ann.api.create_pull_request(repo, title="secret change")
    httpx2.post(f"{ann.url}/api/v1/repos/{repo}/aliases/prod/promote", json={}, headers=bearer(ann)).raise_for_status()
    return repo


def of_a_repo() -> list[tuple[str, str]]:
    return [(path, method) for path, method in routes() if "{ns}" in path]


def body_for(path: str, me: str) -> dict[str, Any]:
    found = next((body for part, body in BODIES.items() if part in path), None)
    if isinstance(found, bytes):
        return {"content": found}
    return {"json": {key: value.format(me=me) if isinstance(value, str) else value for key, value in found.items()}} \
        if found is not None else {"json": {}}  # fmt: skip


@pytest.mark.parametrize("signed_in", [True, False])
def test_no_route_tells_a_private_repo_from_none(live: Any, ann: Any, bob: Any, private: str, signed_in: bool) -> None:
    before = ann.api.model_info(private, files_metadata=True)
    sha = str(before.sha)
    assert len(of_a_repo()) > 30
    with httpx2.Client(base_url=live.url, headers=bearer(bob) if signed_in else {}) as client:
        for path, method in of_a_repo():
            answers = []
            for name in ("hidden", "absent"):
                asked = fill(path, ns=ann.name, name=name, repo_git=f"{name}.git")
                sending = body_for(path, bob.name) if method in ("POST", "PUT", "DELETE", "PATCH") else {}
                answer = client.request(method, asked, **sending)
                headers = {
                    k: v.replace(name, "NAME") for k, v in answer.headers.items() if k not in ("date", "x-request-id")
                }
                answers.append((answer.status_code, answer.text.replace(name, "NAME"), headers))
            assert answers[0] == answers[1], (method, path)
            assert sha not in str(answers) and "secret" not in str(answers)
            assert answers[0][0] == (404 if signed_in else 401), (method, path, answers[0])
            code = answers[0][2].get("x-error-code")
            assert code == "RepoNotFound" or (not signed_in and "Sign in" in answers[0][1]), (method, path)
    after = ann.api.model_info(private, files_metadata=True)
    assert (after.sha, after.private, after.siblings) == (before.sha, True, before.siblings)


def test_the_owner_s_requests_reach_every_one_of_these_routes(ann: Any, private: str) -> None:
    """Else the test above would prove nothing: a malformed request is refused whatever the repo."""
    with httpx2.Client(base_url=ann.url, headers=bearer(ann), timeout=60) as client:
        for path, method in of_a_repo():
            asked = fill(path, ns=ann.name, name="hidden", repo_git="hidden.git")
            sending = body_for(path, ann.name) if method in ("POST", "PUT", "DELETE", "PATCH") else {}
            answer = client.request(method, asked, **sending)
            assert answer.headers.get("x-error-code") != "RepoNotFound", (method, path)
            assert "malformed" not in answer.headers.get("x-error-message", ""), (method, path, answer.text)
            if method in ("DELETE", "PUT", "POST"):
                ann.api.update_repo_settings(f"{ann.name}/hidden", private=True)


def test_what_lists_or_takes_names_in_its_body_does_not_tell_either(
    live: Any, ann: Any, bob: Any, private: str
) -> None:
    sha = str(ann.api.model_info(private).sha)
    for user in (bob, None):
        with httpx2.Client(base_url=live.url, headers=bearer(user)) as client:
            for path, method in routes():
                if method == "GET" and "{ns}" not in path:
                    answer = client.get(fill(path, name=ann.name, org=ann.name))
                    assert "hidden" not in answer.text and sha not in answer.text, path
            texts = []
            for name in ("hidden", "absent"):
                repo = f"{ann.name}/{name}"
                found = [
                    client.post("/api/repos/create", json={"name": repo}),
                    client.request("DELETE", "/api/repos/delete", json={"name": repo}),
                    client.post("/api/repos/move", json={"fromRepo": repo, "toRepo": f"{bob.name}/mine"}),
                    client.post("/api/repos/move", json={"fromRepo": f"{bob.name}/none", "toRepo": repo}),
                    client.post(f"/api/models/{ann.name}/none/duplicate", json={"repository": repo}),
                    client.post(
                        "/api/v1/compositions",
                        json={"into": repo, "parts": [{"address": f"{bob.name}/p", "weight": 1}]},
                    ),
                    client.post(
                        "/api/v1/compositions",
                        json={"into": f"{bob.name}/m", "parts": [{"address": repo, "weight": 1}]},
                    ),
                    client.get("/api/models", params={"search": name}),
                    client.get("/api/v1/adapters", params={"text": name}),
                ]
                texts.append([(one.status_code, one.text.replace(name, "NAME")) for one in found])
            assert texts[0] == texts[1]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("body", [b"", b"\xff\xfe{", b"[1]", b'{"name": {}}'])
def test_whatever_is_asked_gets_an_id_and_errors_have_one_shape(
    live: Any, ann: Any, private: str, body: bytes, there: bool
) -> None:
    """Also the framework's own errors: unknown routes, other methods, bodies that are no JSON."""
    known = {"ns": ann.name, "name": "hidden", "repo_git": "hidden.git"}
    if not there:
        known = {"ns": ann.name, "name": "no%20such", "repo_git": "x.git", "rev": "no%2Fsuch", "number": "-1"}
    paths = {path for path, _ in routes()} | {"/nothing/at/all", "/api/nothing", "/api/v1/nothing"}
    headers = bearer(ann) | ({"content-type": "application/json"} if body else {})
    with httpx2.Client(base_url=live.url, headers=headers, timeout=60) as client:
        for path in sorted(paths):
            for method in METHODS:
                answer = client.request(method, fill(path, **known), content=body)
                what = (method, path, answer.status_code)
                assert len(answer.headers["x-request-id"]) == 32, what
                assert answer.status_code < 500 and answer.status_code not in (405, 422), what
                if answer.status_code < 400:
                    continue
                assert answer.headers["content-type"] == "application/json", what
                if path == "/api/validate-yaml" and method == "POST":
                    assert answer.json()["errors"][0]["message"]
                else:
                    assert answer.headers["x-error-message"], what
                    assert method == "HEAD" or answer.json()["error"], what


NOWHERE = ("nul\0", "\ud800")
"""Texts that one database or both cannot hold."""
ODD = (*NOWHERE, None, 2**70, [[]])


def with_one_odd(body: Any, odd: tuple[Any, ...]) -> Iterator[Any]:
    """The body with one of its values replaced."""
    yield from odd
    items = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in items:
        for other in with_one_odd(value, odd):
            changed = body.copy()
            changed[key] = other
            yield changed


@pytest.fixture(params=["sqlite", "postgresql"])
def served(request: pytest.FixtureRequest, live: Any, serve_with: Any) -> tuple[Any, tuple[Any, ...]]:
    """A server over either database, and what to try on it: what differs between them is texts."""
    if request.param == "sqlite":
        return live, ODD
    url = request.getfixturevalue("postgres_url")
    admin = open_database(url).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS odd WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE odd"))
    admin.dispose()
    return serve_with(database_url=url.replace("/postgres?", "/odd?")), NOWHERE


def test_odd_values_in_bodies_and_queries_never_break_the_server(served: tuple[Any, tuple[Any, ...]]) -> None:
    live, odd = served
    ann = live.user()
    ann.api.create_repo(f"{ann.name}/there")
    ann.api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=f"{ann.name}/there")
    known = {"ns": ann.name, "name": "there", "repo_git": "there.git"}
    texts = ("search", "author", "filter", "sort", "expand", "text", "namespace", "base", "tag", "revision", "folder")
    queries = ["&".join(f"{word}={value}" for word in texts) for value in ("%00", "%ED%A0%80")]
    queries += [f"{word}={value}" for word in ("cursor", "limit") for value in ("-1", "9" * 30)]
    with httpx2.Client(base_url=ann.url, headers=bearer(ann), timeout=60) as client:
        for path, method in sorted(set(routes())):
            if method in ("POST", "PUT") and not path.startswith("/_"):
                body = body_for(path, ann.name).get("json", {"name": "a", "organization": "b", "fromRepo": "c/d"})
                for changed in with_one_odd(body, odd):
                    sent = json.dumps(changed).encode()
                    headers = {"content-type": "application/json"}
                    answer = client.request(method, fill(path, **known), content=sent, headers=headers)
                    assert answer.status_code < 500, (method, path, sent[:200], answer.text)
            for query in queries if method == "GET" else ():
                answer = client.get(f"{fill(path, **known)}?{query}")
                assert answer.status_code < 500, (path, query, answer.text)
