"""Attacks: what a stranger, or a client with a grudge, sends. Each must be refused, and leave nothing behind."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import logging
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError
from safetensors.numpy import save

from hub import token_format
from hub.signing import sign
from storage import server_keys


def weights(size: int = 400, *, name: str = "x") -> bytes:
    import numpy as np

    return save({name: np.arange(size, dtype="float32")})


def bearer(user: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {user.token}"}


@pytest.fixture
def repo(ann: Any) -> str:
    name = f"{ann.name}/target"
    ann.api.create_repo(name)
    ann.api.upload_file(path_or_fileobj=b"hello", path_in_repo="a.txt", repo_id=name)
    return name


def commit(user: Any, repo: str, *entries: tuple[str, dict[str, Any]], **options: Any) -> httpx2.Response:
    listed = [("header", {"summary": "attack"}), *entries]
    body = "\n".join(json.dumps({"key": key, "value": value}) for key, value in listed)
    url = f"{user.url}/api/models/{repo}/commit/main"
    headers = bearer(user) | {"content-type": "application/x-ndjson"}
    return httpx2.post(url, content=body.encode(), headers=headers, **options)


def file(path: str, content: bytes = b"x") -> tuple[str, dict[str, Any]]:
    return "file", {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}


@pytest.mark.case(40)
@pytest.mark.parametrize(
    "path",
    [
        "../up.txt", "/etc/passwd", "a/../../b", "a//b", ".git/config", "sub/.GIT/hooks", "a\\b", "nul\0byte", "",
        "C:/windows", "./a", "x" * 300, "a/" * 600 + "b", "line\nbreak", "\ud800",
    ],
)  # fmt: skip
def test_paths_that_lead_out_are_refused(ann: Any, repo: str, path: str) -> None:
    for entry in (
        file(path), ("lfsFile", {"path": path, "algo": "sha256", "oid": "0" * 64}),
        ("copyFile", {"path": path, "srcPath": "a.txt"}),
    ):  # fmt: skip
        answer = commit(ann, repo, entry)
        assert answer.status_code == 400 and answer.headers["x-error-message"], path
    preupload = httpx2.post(
        f"{ann.url}/api/models/{repo}/preupload/main", headers=bearer(ann),
        content=json.dumps({"files": [{"path": path, "size": 1, "sample": ""}]}),
    )  # fmt: skip
    assert preupload.status_code == 400
    assert ann.api.list_repo_files(repo) == ["a.txt"]


@pytest.mark.case(40)
@pytest.mark.parametrize(
    "path",
    [
        "..%2F..%2F..%2Fmixhub.sqlite", "../../mixhub.sqlite", "%2e%2e/%2e%2e/mixhub.sqlite", "..%5cmixhub.sqlite",
        "%00", "a.txt%00.md", "..%252Fmixhub.sqlite", "%ff%fe", "a.txt/", "",
    ],
)  # fmt: skip
def test_downloads_lead_nowhere_else(live: Any, repo: str, path: str) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", live.port)
    for revision in ("main", "..%2F..", "refs%2Fpr%2F..%2F1"):
        for method in ("GET", "HEAD"):
            connection.request(method, f"/{repo}/resolve/{revision}/{path}")
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status in (400, 404), (path, answer.status)
            assert b"SQLite" not in content
    connection.close()


@pytest.mark.case(10)
def test_a_foreign_digest_gives_no_access(ann: Any, bob: Any, mode: str) -> None:
    """Whoever knows the sha256 of private weights can neither commit them nor learn that they are stored."""
    secret = weights(501, name=ann.name)
    digest = hashlib.sha256(secret).hexdigest()
    ann.api.create_repo(f"{ann.name}/private", private=True)
    ann.api.upload_file(path_or_fileobj=secret, path_in_repo="w.safetensors", repo_id=f"{ann.name}/private")
    bob.api.create_repo(f"{bob.name}/thief")
    claim = ("lfsFile", {"path": "w.safetensors", "algo": "sha256", "oid": digest, "size": len(secret)})
    nothing = ("lfsFile", {"path": "w.safetensors", "algo": "sha256", "oid": "1" * 64, "size": len(secret)})
    answers = [commit(bob, f"{bob.name}/thief", entry) for entry in (claim, nothing)]
    assert [one.status_code for one in answers] == [400, 400]
    assert answers[0].text.replace(digest, "") == answers[1].text.replace("1" * 64, "")
    batch = httpx2.post(
        f"{bob.url}/{bob.name}/thief.git/info/lfs/objects/batch", headers=bearer(bob),
        json={"operation": "upload", "objects": [{"oid": digest, "size": len(secret)}]},
    )  # fmt: skip
    assert "upload" in batch.json()["objects"][0]["actions"]  # he is asked for the bytes like anybody
    bob.api.upload_file(path_or_fileobj=secret, path_in_repo="w.safetensors", repo_id=f"{bob.name}/thief")


@pytest.mark.case(40)
def test_upload_links_are_good_for_what_they_say_only(live: Any, ann: Any, repo: str) -> None:
    content = weights(77)
    digest = hashlib.sha256(content).hexdigest()
    batch = httpx2.post(
        f"{ann.url}/{repo}.git/info/lfs/objects/batch", headers=bearer(ann),
        json={"operation": "upload", "objects": [{"oid": digest, "size": len(content)}]},
    )  # fmt: skip
    href = batch.json()["objects"][0]["actions"]["upload"]["href"]
    assert httpx2.put(href, content=content[:-1] + b"!").status_code == 400
    assert httpx2.put(href, content=content + b"more").status_code == 413
    assert httpx2.put(href, content=content[:-5]).status_code == 400
    assert httpx2.put(href[:-4] + "0000", content=content).status_code == 403
    assert httpx2.put(href.replace("/put/", "/part/"), content=content).status_code == 403
    claims, _, mac = href.rpartition("/")[2].partition(".")
    other = json.loads(base64.urlsafe_b64decode(claims + "=="))
    forged = base64.urlsafe_b64encode(json.dumps({**other, "oid": "2" * 64}).encode()).decode().rstrip("=")
    assert httpx2.put(f"{ann.url}/_lfs/put/{forged}.{mac}", content=content).status_code == 403
    with live.home.write() as session:
        key = server_keys.key(session, "uploads")
    late = sign(key, {"oid": digest, "size": len(content), "tenant": 1}, purpose="lfs-put", seconds=-1)
    expired = httpx2.put(f"{ann.url}/_lfs/put/{late}", content=content)
    assert expired.status_code == 403 and "expired" in expired.text
    assert not live.home.blobs.size(digest)
    assert httpx2.put(href, content=content).status_code == 200


@pytest.mark.case(9)
def test_parts_that_do_not_add_up_to_the_digest_are_not_stored(serve_with: Any) -> None:
    live = serve_with(multipart_bytes=1000)
    user, content = live.user(), weights(600)
    repo, digest = f"{user.name}/parts", hashlib.sha256(content).hexdigest()
    user.api.create_repo(repo)
    batch = httpx2.post(
        f"{live.url}/{repo}.git/info/lfs/objects/batch", headers=bearer(user),
        json={
            "operation": "upload", "transfers": ["basic", "multipart"],
            "objects": [{"oid": digest, "size": len(content)}],
        },
    ).json()  # fmt: skip
    assert batch["transfer"] == "multipart"
    upload = batch["objects"][0]["actions"]["upload"]
    pieces = [content[start : start + 1000] for start in range(0, len(content), 1000)]
    assert len([key for key in upload["header"] if key.isdigit()]) == len(pieces) == 3
    assert httpx2.put(upload["header"]["00001"], content=pieces[0][:-1]).status_code == 400
    for number, piece in enumerate((pieces[0], pieces[1][::-1]), 1):
        put = httpx2.put(upload["header"][f"{number:05d}"], content=piece)
        assert put.status_code == 200 and put.headers["etag"]
    early = httpx2.post(upload["href"], json={})
    assert early.status_code == 400 and "3" in early.json()["error"]  # the last part has not come
    httpx2.put(upload["header"]["00003"], content=pieces[2]).raise_for_status()
    assert httpx2.post(upload["href"], json={}).status_code == 400 and live.home.blobs.size(digest) is None
    httpx2.put(upload["header"]["00002"], content=pieces[1]).raise_for_status()
    assert httpx2.post(upload["href"], json={}).status_code == 200 and live.home.blobs.size(digest) == len(content)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\n\n", b"not json\n", b"[]\n", b'{"key":"file"}\n', b'{"key":"file","value":{"path":"a"}}\n',
        b'{"key":"header","value":{"summary":3}}\n', b"[" * 100_000, b'{"key":"header","value":{}}\n\xff\xfe\n',
        b'{"key":"header","value":{"parentCommit":"%"}}\n', b'{"key":"header","value":{"summary":"\\u0000"}}\n',
        b'{"key":"header","value":{}}\n{"key":"file","value":{"path":"a","content":"***","encoding":"base64"}}\n',
        b'{"key":"header","value":{}}\n{"key":"lfsFile","value":{"path":"a","oid":"..","algo":"sha256"}}\n',
        b'{"key":"header","value":{}}\n{"key":"rm","value":{"path":"a"}}\n',
    ],
)  # fmt: skip
def test_commits_of_nonsense_are_refused_in_words(ann: Any, repo: str, body: bytes) -> None:
    answer = httpx2.post(f"{ann.url}/api/models/{repo}/commit/main", content=body, headers=bearer(ann))
    assert answer.status_code == 400 and answer.json()["error"]


def test_bodies_lines_and_headers_have_a_limit(serve_with: Any) -> None:
    live = serve_with(max_line_bytes=100_000, max_file_bytes=1_000_000, namespace_bytes=600_000)
    user = live.user()
    repo = f"{user.name}/small"
    user.api.create_repo(repo)
    assert commit(user, repo, file("a.txt", b"x" * 200_000)).status_code == 413
    batch = httpx2.post(
        f"{live.url}/{repo}.git/info/lfs/objects/batch", headers=bearer(user),
        json={"operation": "upload", "objects": [{"oid": "3" * 64, "size": 2_000_000}]},
    )  # fmt: skip
    assert batch.status_code == 413
    with pytest.raises(httpx2.HTTPError):
        httpx2.get(f"{live.url}/api/models", headers={"x-long": "x" * 200_000}).raise_for_status()
    assert httpx2.get(f"{live.url}/api/models?search={'x' * 20_000}").status_code in (400, 404, 414)
    for i in range(8):
        done = commit(user, repo, file(f"{i}.txt", bytes([i]) * 70_000))
        assert done.status_code == 200
    full = commit(user, repo, file("more.txt", b"m" * 70_000))
    assert full.status_code == 413 and "600000" in full.text


@pytest.mark.parametrize(
    "front",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in itertools.pairwise("abcdefghi")),
        "a: &a\n  - *a\n",
        "a: " + "[" * 5000,
        "a: 2026-02-31\n",
    ],
    ids=["bomb", "loop", "depth", "no date"],
)
def test_cards_that_unfold_without_end_are_refused_quickly(ann: Any, repo: str, front: str) -> None:
    began = time.perf_counter()
    answer = commit(ann, repo, file("README.md", f"---\n{front}---\n".encode()))
    assert answer.status_code == 400 and time.perf_counter() - began < 10
    checked = httpx2.post(f"{ann.url}/api/validate-yaml", json={"content": f"---\n{front}---\n", "repoType": "model"})
    assert checked.status_code in (200, 400)


@pytest.mark.case(40)
def test_html_is_never_served_as_html(mode: str, ann: Any, repo: str) -> None:
    page = b"<html><script>alert(1)</script></html>"
    for name in ("page.html", "page.svg", "page.xhtml", "page", "page.js"):
        ann.api.upload_file(path_or_fileobj=page, path_in_repo=name, repo_id=repo)
        answer = httpx2.get(f"{ann.url}/{repo}/resolve/main/{name}")
        assert answer.content == page
        assert answer.headers["content-type"].startswith(("application/octet-stream", "text/plain"))
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


def test_tokens_are_stored_as_digests_and_never_logged(
    live: Any, ann: Any, repo: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        ann.api.upload_file(path_or_fileobj=weights(), path_in_repo="w.safetensors", repo_id=repo)
        with pytest.raises(HfHubHTTPError):
            ann.api.upload_file(path_or_fileobj=b"x", path_in_repo="weights.bin", repo_id=repo)
    ours = [one for one in caplog.records if one.name.startswith(("mixhub", "uvicorn", "fastapi", "starlette"))]
    assert all(ann.token not in one.getMessage() for one in ours)
    # in another process: if this one closed the files, the server in it would lose its locks on them
    read_all = (
        "import pathlib, sys; [sys.stdout.buffer.write(p.read_bytes()) for p in pathlib.Path().glob('mixhub.sq*')]"
    )
    kept = subprocess.run(
        [sys.executable, "-c", read_all], cwd=live.home.directory, capture_output=True, check=True
    ).stdout
    assert ann.token.encode() not in kept and token_format.digest(ann.token).encode() in kept


def test_a_base_named_by_a_stranger_is_never_looked_up_on_this_machine(
    live: Any, bob: Any, tiny_t5: Path, write_lora: Callable[..., Path]
) -> None:
    from storage import adapters, repos, revisions

    folder = write_lora("spy", base_model_name_or_path=str(tiny_t5))
    bob.api.create_repo(f"{bob.name}/spy")
    bob.api.upload_folder(repo_id=f"{bob.name}/spy", folder_path=folder)
    with live.home.read() as session:
        head = revisions.resolve(session, repos.find(session, bob.name, "spy"))
        facts = adapters.facts_of(session, head)
    assert facts is not None and facts.usable and facts.base_identity is None


def test_reserved_names_make_no_branch_or_tag(ann: Any, repo: str) -> None:
    for name in ("refs/pr/7", "refs/heads/x", "..", "a..b", "-x", "x.lock", "a b", "main"):
        with pytest.raises(HfHubHTTPError):
            ann.api.create_branch(repo, branch=name)
        with pytest.raises(HfHubHTTPError):
            ann.api.create_tag(repo, tag=name)


def test_commits_of_noise_change_nothing_or_all(ann: Any, repo: str) -> None:
    """A good commit altered in a few places is refused in words, or it is another good commit."""
    noise = random.Random(2)
    listed = [
        ("header", {"summary": "s", "description": "d"}),
        file("b.txt", b"words"),
        ("deletedFile", {"path": "a.txt"}),
    ]
    good = "\n".join(json.dumps({"key": key, "value": value}) for key, value in listed).encode()
    url = f"{ann.url}/api/models/{repo}/commit/main"
    with httpx2.Client(headers=bearer(ann) | {"content-type": "application/x-ndjson"}) as client:
        for _ in range(50):
            body = bytearray(good)
            for _ in range(noise.randrange(1, 6)):
                where = noise.randrange(len(body))
                piece = noise.choice(
                    [b"\0", b"\n", b'"', b"{", b"\\u0000", b"\xff", b"[" * 3000, b"1e999", b"null", b""]
                )
                body[where : where + noise.randrange(4)] = piece
            before = ann.api.model_info(repo).sha
            answer = client.post(url, content=bytes(body))
            assert answer.status_code in (200, 400, 404), (answer.status_code, bytes(body)[:300])
            if answer.status_code != 200:
                assert answer.json()["error"] and ann.api.model_info(repo).sha == before
            elif "a.txt" not in ann.api.list_repo_files(repo):
                client.post(url, content=_commit_of(file("a.txt"))).raise_for_status()


def _commit_of(*entries: tuple[str, dict[str, Any]]) -> bytes:
    listed = [("header", {"summary": "again"}), *entries]
    return "\n".join(json.dumps({"key": key, "value": value}) for key, value in listed).encode()


def test_headers_of_noise_never_break_the_server(live: Any, ann: Any, repo: str) -> None:
    """Bytes that no client library would send, over a bare connection."""
    import socket

    noise = random.Random(3)
    names = [
        b"Authorization", b"Range", b"If-Range", b"Host", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"Accept-Encoding",
        b"X-Forwarded-Prefix", b"Content-Type", b"Cookie", b"Transfer-Encoding", b"Expect", b"User-Agent",
    ]  # fmt: skip
    values = [
        b"bytes=0-0,5-9", b"bytes=-", b"bytes=99999999999999999999-", b"bytes=5-2", b"\xff\xfe", b"Bearer",
        b"Basic eDp5", b"'; drop table repo; --", b"a" * 30_000, b"http://[::1", b"//evil.example", b"chunked",
        b"W/\"x\"", b"%00", b"\t", b"Bearer \xff", b"100-continue",
    ]  # fmt: skip
    targets = [
        f"/{repo}/resolve/main/a.txt",
        "/api/models",
        f"/api/models/{repo}",
        "/api/whoami-v2",
        "/api/repos/create",
    ]
    for _ in range(150):
        headers = [noise.choice(names) + b": " + noise.choice(values) for _ in range(noise.randrange(1, 5))]
        if not any(line.startswith(b"Host") for line in headers):
            headers.append(b"Host: localhost")
        method = noise.choice([b"GET", b"HEAD", b"POST", b"DELETE", b"\xc3\xa9", b"get"])
        request = method + b" " + noise.choice(targets).encode() + b" HTTP/1.1\r\n" + b"\r\n".join(headers)
        with socket.create_connection(("127.0.0.1", live.port), timeout=10) as connection:
            connection.sendall(request + b"\r\nConnection: close\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").read()
        assert not answer or int(answer.split()[1]) < 500, (request[:300], answer[:300])
    assert httpx2.get(f"{live.url}/healthz").status_code == 200
