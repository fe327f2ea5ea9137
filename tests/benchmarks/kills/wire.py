"""The requests that write, as clients send them. What returns was answered with 2xx: it was acknowledged."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import struct
from collections.abc import Mapping
from typing import Any

import httpx2


class Refused(Exception):
    """The server answered, but not with 2xx."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.status = answer.status_code
        super().__init__(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:300]}")


class Wire:
    """One client. Its methods raise Refused, or httpx2.TransportError where no answer came."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx2.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=60)

    def create_repo(self, repo: str) -> None:
        namespace, name = repo.split("/")
        self._ask("POST", "/api/repos/create", json={"name": name, "organization": namespace, "private": True})

    def commit(self, repo: str, inside: Mapping[str, bytes], large: Mapping[str, bytes]) -> str:
        """Small files come with the commit, large ones were uploaded. Returns the commit id."""
        lines: list[tuple[str, dict[str, Any]]] = [("header", {"summary": "of the benchmark"})]
        for path, content in inside.items():
            coded = base64.b64encode(content).decode()
            lines.append(("file", {"path": path, "content": coded, "encoding": "base64"}))
        for path, content in large.items():
            lines.append(("lfsFile", {"path": path, "algo": "sha256", "oid": sha256(content), "size": len(content)}))
        body = "\n".join(json.dumps({"key": key, "value": value}) for key, value in lines)
        return str(self._ask("POST", f"/api/models/{repo}/commit/main", content=body)["commitOid"])

    def upload_lfs(self, repo: str, content: bytes) -> None:
        if address := self.wanted(repo, sha256(content), len(content)):
            self._ask("PUT", address, content=content)

    def wanted(self, repo: str, digest: str, size: int) -> str | None:
        """Where the server wants these bytes; None: it has them."""
        batch = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": digest, "size": size}]}
        one = self._ask("POST", f"/{repo}.git/info/lfs/objects/batch", json=batch)["objects"][0]
        return str(one["actions"]["upload"]["href"]) if "actions" in one else None

    def upload_xet(self, repo: str, content: bytes) -> None:
        """As current clients do: chunks in xorbs, then a shard that says how they make the file."""
        given = self._ask("GET", f"/api/models/{repo}/xet-write-token/main")
        headers = {"authorization": f"Bearer {given['accessToken']}"}
        half, terms = len(content) // 2, b""
        for part in (content[:half], content[half:]):
            xorb = secrets.token_hex(32)
            pieces = [part[start : start + 65536] for start in range(0, len(part), 65536)]
            packed = b"".join(_chunk(piece) for piece in pieces)
            self._ask("POST", f"{given['casUrl']}/v1/xorbs/default/{xorb}", content=packed, headers=headers)
            terms += _raw(xorb) + struct.pack("<IIII", 0, len(part), 0, len(pieces))
        record = b"\1" * 32 + struct.pack("<II", 1 << 30, 2) + b"\0" * 8
        digest = _raw(sha256(content)) + b"\0" * 16
        shard = b"\0" * 48 + record + terms + digest + b"\xff" * 32 + b"\0" * 16
        self._ask("POST", f"{given['casUrl']}/v1/shards", content=shard, headers=headers)

    def tag(self, repo: str, tag: str, commit: str) -> None:
        self._ask("POST", f"/api/models/{repo}/tag/{commit}", json={"tag": tag})

    def branch(self, repo: str, branch: str, commit: str) -> None:
        self._ask("POST", f"/api/models/{repo}/branch/{branch}", json={"startingPoint": commit})

    def promote(self, repo: str, alias: str, commit: str) -> int:
        """The number of the move."""
        move = self._ask("POST", f"/api/v1/repos/{repo}/aliases/{alias}/promote", json={"revision": commit})
        return int(move["seq"])

    def delete(self, kind: str, repo: str, name: str = "") -> None:
        """A repo, or a branch, tag or version of it."""
        if kind == "repo":
            namespace, word = repo.split("/")
            self._ask("DELETE", "/api/repos/delete", json={"name": word, "organization": namespace})
        elif kind == "version":
            self._ask("DELETE", f"/api/v1/repos/{repo}/versions/{name}")
        else:
            self._ask("DELETE", f"/api/models/{repo}/{kind}/{name}")

    def file(self, repo: str, revision: str, path: str) -> bytes:
        answer = self._http.get(f"/{repo}/resolve/{revision}/{path}", follow_redirects=True)
        if answer.status_code != 200:
            raise Refused(answer)
        return answer.content

    def has_repo(self, repo: str) -> bool:
        return self._http.get(f"/api/models/{repo}").status_code == 200

    def close(self) -> None:
        self._http.close()

    def _ask(self, method: str, url: str, **options: Any) -> Any:
        answer = self._http.request(method, url, **options)
        if not answer.is_success:
            raise Refused(answer)
        return answer.json()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _chunk(piece: bytes) -> bytes:
    size = len(piece).to_bytes(3, "little")
    return b"\0" + size + b"\0" + size + piece


def _raw(digest: str) -> bytes:
    """The bytes of every group of eight are reversed on the wire."""
    return b"".join(bytes.fromhex(digest)[start : start + 8][::-1] for start in range(0, 32, 8))
