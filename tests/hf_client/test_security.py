"""Attacks: what a stranger, or a client with a grudge, sends. Each must be refused, and leave nothing behind."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import logging
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import lz4.frame
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


def xet(user: Any, repo: str) -> tuple[str, dict[str, str]]:
    token = httpx2.get(f"{user.url}/api/models/{repo}/xet-write-token/main", headers=bearer(user))
    token.raise_for_status()
    found = token.json()
    return found["casUrl"], {"authorization": f"Bearer {found['accessToken']}"}


def chunk(content: bytes, *, scheme: int = 0, size: int | None = None, packed: bytes | None = None) -> bytes:
    data = content if packed is None else packed
    length = len(content) if size is None else size
    return b"\0" + len(data).to_bytes(3, "little") + bytes([scheme]) + length.to_bytes(3, "little") + data


def shard_of(xorb: str, content: bytes, *, chunks: int = 1, unpacked: int | None = None, sha256: str = "") -> bytes:
    raw_xorb = b"".join(bytes.fromhex(xorb)[i : i + 8][::-1] for i in range(0, 32, 8))
    digest = bytes.fromhex(sha256) if sha256 else hashlib.sha256(content).digest()
    raw_digest = b"".join(digest[i : i + 8][::-1] for i in range(0, 32, 8))
    header = b"\0" * 48
    record = b"\1" * 32 + struct.pack("<II", 1 << 30, 1) + b"\0" * 8
    size = len(content) if unpacked is None else unpacked
    term = raw_xorb + struct.pack("<IIII", 0, size, 0, chunks)
    return header + record + term + raw_digest + b"\0" * 16 + b"\xff" * 32 + b"\0" * 16


XORB = "ab" * 32


def test_the_test_s_own_xorb_and_shard_are_well_formed(ann: Any, repo: str, live: Any) -> None:
    """Else the refusals below would prove nothing."""
    content = weights(99)
    url, headers = xet(ann, repo)
    assert httpx2.post(f"{url}/v1/xorbs/default/{XORB}", content=chunk(content), headers=headers).status_code == 200
    done = httpx2.post(f"{url}/v1/shards", content=shard_of(XORB, content), headers=headers)
    assert done.status_code == 200, done.text
    assert live.home.blobs.size(hashlib.sha256(content).hexdigest()) == len(content)


@pytest.mark.case(40)
def test_a_xet_token_is_good_for_its_own_repo_and_session_only(ann: Any, bob: Any, repo: str) -> None:
    bob.api.create_repo(f"{bob.name}/other")
    ann.api.create_repo(f"{ann.name}/second")
    mine, headers = xet(ann, repo)
    for theirs in (xet(bob, f"{bob.name}/other")[1], xet(ann, f"{ann.name}/second")[1], {}, bearer(ann)):
        answer = httpx2.post(f"{mine}/v1/xorbs/default/{XORB}", content=chunk(b"x"), headers=theirs)
        assert answer.status_code == 403
    altered = {"authorization": headers["authorization"][:-3] + "000"}
    assert httpx2.post(f"{mine}/v1/xorbs/default/{XORB}", content=chunk(b"x"), headers=altered).status_code == 403
    for session in ("x", "../../blobs", "..%2F..%2Fblobs", mine.rpartition("/")[2][:16], "0" * 48):
        url = f"{ann.url}/_cas/{session}/v1/xorbs/default/{XORB}"
        assert httpx2.post(url, content=chunk(b"x"), headers=headers).status_code in (403, 404)
    assert httpx2.get(f"{ann.url}/api/models/{repo}/xet-write-token/main", headers=bearer(bob)).status_code == 403


def test_xorbs_that_lie_about_themselves_are_refused(ann: Any, repo: str) -> None:
    url, headers = xet(ann, repo)
    bomb = lz4.frame.compress(b"\0" * 50_000_000)
    for number, (content, shard) in enumerate(
        (
            (b"", None), (b"\1" * 40, None), (b"\0\xff\xff\xff\0\1\0\0", None), (chunk(b"x", scheme=7), None),
            (chunk(b"", size=0xFFFFFF, packed=b"x"), None),
            (chunk(b"", scheme=1, size=1000, packed=bomb), b"\0" * 1000),  # more than it says
            (chunk(b"", scheme=1, size=1000, packed=b"not lz4"), b"\0" * 1000),
            (chunk(b"abc"), b"abd"),  # other bytes than the sha256 says
        )
    ):  # fmt: skip
        xorb = f"{number:064x}"
        sent = httpx2.post(f"{url}/v1/xorbs/default/{xorb}", content=content, headers=headers)
        if shard is None:
            assert sent.status_code == 400, number
            continue
        assert sent.status_code == 200
        started = time.perf_counter()
        done = httpx2.post(f"{url}/v1/shards", content=shard_of(xorb, shard), headers=headers)
        assert done.status_code == 400 and time.perf_counter() - started < 2, number
    for name in ("../../../x", "zz" * 32, "..%2Fx"):
        assert httpx2.post(f"{url}/v1/xorbs/default/{name}", content=chunk(b"x"), headers=headers).status_code in (
            400,
            404,
        )


def test_shards_of_noise_never_break_the_server(ann: Any, repo: str) -> None:
    url, headers = xet(ann, repo)
    good = shard_of(XORB, b"hello")
    httpx2.post(f"{url}/v1/xorbs/default/{XORB}", content=chunk(b"hello"), headers=headers).raise_for_status()
    noise = random.Random(0)
    with httpx2.Client(headers=headers) as client:
        for _ in range(150):
            shard = bytearray(good)
            for _ in range(noise.randrange(1, 12)):
                shard[noise.randrange(48, len(shard))] = noise.randrange(256)
            cut = bytes(shard[: noise.randrange(0, len(shard))]) if noise.random() < 0.3 else bytes(shard)
            assert client.post(f"{url}/v1/shards", content=cut).status_code in (200, 400)


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
    database = live.home.directory / "mixhub.sqlite"
    kept = b"".join(path.read_bytes() for path in database.parent.glob("mixhub.sqlite*"))
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
