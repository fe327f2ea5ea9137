"""Attacks on the routes that take Xet uploads: tokens, xorbs and shards that lie, and noise."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import struct
import time
from typing import Any

import httpx2
import lz4.frame
import pytest
from safetensors.numpy import save

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
    return name


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


def test_a_xet_token_ends(live: Any, ann: Any, repo: str) -> None:
    url, headers = xet(ann, repo)
    claims = json.loads(base64.urlsafe_b64decode(headers["authorization"].split()[1].split(".")[0] + "=="))
    with live.home.write() as session:
        key = server_keys.key(session, "uploads")
    late = sign(key, {name: claims[name] for name in ("account", "repo", "tenant")}, purpose="xet", seconds=-1)
    for path, content in ((f"xorbs/default/{XORB}", chunk(b"x")), ("shards", shard_of(XORB, b"x"))):
        answer = httpx2.post(f"{url}/v1/{path}", content=content, headers={"authorization": f"Bearer {late}"})
        assert answer.status_code == 403 and "expired" in answer.json()["error"]


@pytest.mark.case(10)
def test_a_shard_that_names_a_stranger_s_digest_gives_no_access(mode: str, ann: Any, bob: Any) -> None:
    """Not without the bytes, not with other bytes, not with the xorb of the stranger's own session."""
    secret = weights(700, name=ann.name)
    digest = hashlib.sha256(secret).hexdigest()
    ann.api.create_repo(f"{ann.name}/private", private=True)
    ann.api.upload_file(path_or_fileobj=secret, path_in_repo="w.safetensors", repo_id=f"{ann.name}/private")
    hers, her_headers = xet(ann, f"{ann.name}/private")
    httpx2.post(f"{hers}/v1/xorbs/default/{XORB}", content=chunk(secret), headers=her_headers).raise_for_status()
    bob.api.create_repo(f"{bob.name}/thief")
    url, headers = xet(bob, f"{bob.name}/thief")
    other = "cd" * 32
    httpx2.post(f"{url}/v1/xorbs/default/{other}", content=chunk(b"other"), headers=headers).raise_for_status()
    raw_digest = b"".join(bytes.fromhex(digest)[i : i + 8][::-1] for i in range(0, 32, 8))
    without_terms = b"\0" * 48 + b"\1" * 32 + struct.pack("<II", 1 << 30, 0) + b"\0" * 8 + raw_digest + b"\0" * 16
    for shard in (
        shard_of(XORB, secret), shard_of(other, b"other", sha256=digest), without_terms + b"\xff" * 32 + b"\0" * 16,
    ):  # fmt: skip
        answer = httpx2.post(f"{url}/v1/shards", content=shard, headers=headers)
        assert answer.status_code == 400, answer.text
    header, claim = {"summary": "mine"}, {"path": "w.safetensors", "algo": "sha256", "oid": digest}
    body = "\n".join(json.dumps({"key": k, "value": v}) for k, v in (("header", header), ("lfsFile", claim)))
    taken = httpx2.post(f"{bob.url}/api/models/{bob.name}/thief/commit/main", content=body, headers=bearer(bob))
    assert taken.status_code == 400 and bob.api.list_repo_files(f"{bob.name}/thief") == []


def test_xorbs_of_noise_never_break_the_server(live: Any, ann: Any, repo: str) -> None:
    """Altered anywhere, also in their headers; then a shard is built on them."""
    url, headers = xet(ann, repo)
    noise, content = random.Random(1), weights(100)
    packed = lz4.frame.compress(content)
    good = chunk(content) + chunk(content, scheme=1, packed=packed) + chunk(content, scheme=2, packed=packed)
    before = sum(1 for _ in (live.home.directory / "blobs").rglob("*"))
    with httpx2.Client(headers=headers) as client:
        for number in range(100):
            xorb = bytearray(good)
            for _ in range(noise.randrange(1, 9)):
                where = noise.randrange(8) if noise.random() < 0.4 else noise.randrange(len(xorb))
                xorb[where] = noise.randrange(256)
            sent = bytes(xorb[: noise.randrange(len(xorb))]) if noise.random() < 0.2 else bytes(xorb)
            name = f"{number:064x}"
            stored = client.post(f"{url}/v1/xorbs/default/{name}", content=sent)
            assert stored.status_code in (200, 400)
            claim = shard_of(name, content * 3, chunks=3) if noise.random() < 0.9 else shard_of(name, content)
            done = client.post(f"{url}/v1/shards", content=claim)
            assert done.status_code == 400 or sent[: len(content) + 8] == good[: len(content) + 8] or sent == good
    assert sum(1 for _ in (live.home.directory / "blobs").rglob("*")) <= before + 4
