"""Taking in Xet uploads: what current clients send large files with, and without a fallback.

Xorbs are kept on disk in a session's folder; a shard rebuilds files from them, which are then ordinary blobs, checked
by their sha256. Every token comes with a session of its own, so no client believes that the server still has chunks of
another day, and nobody learns what others have. A client that refreshes its token stays in its first session: the
token is bound to account and repo, and the name of the session to the same two.
"""

from __future__ import annotations

import re
import secrets
import time
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from hub import access, leftovers
from hub.actions import commit as commit_action
from hub.actions import uploads
from hub.body import with_body
from hub.errors import BadSignature, TooLarge
from hub.hf import wire
from hub.hf.found import flag
from hub.hf.xet_format import MAX_SHARD, MAX_XORB, Chunk, MalformedXet, ShardFile, read_chunks, read_shard, unpack
from hub.server import BaseUrl, CallerDep, Server, ServerDep
from hub.signing import short_mac, sign, verify
from storage.blobs import StoredBlob

router = APIRouter()

PURPOSE = "xet"
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NONCE = re.compile(r"[0-9a-f]{16}", re.ASCII)


@router.get("/api/models/{ns:quoted}/{name:quoted}/xet-write-token/{rev:quoted}")
def write_token(
    ns: str, name: str, rev: str, request: Request, response: Response, server: ServerDep, caller: CallerDep,
    base_url: BaseUrl,
) -> wire.Json:  # fmt: skip
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        commit_action.require_push(caller, repo, rev, as_pull_request=flag(request, "create_pr"))
        tenant = commit_action.tenant_of(caller, repo)
        uploads.check_room(session, server.settings, tenant, coming=0)
    leftovers.sweep(server.home.directory, older_than=leftovers.seconds_in_use(server.settings))
    claims = {"account": caller.name, "repo": repo.uuid, "tenant": tenant}
    seconds = server.settings.upload_seconds
    token = sign(server.key, claims, purpose=PURPOSE, seconds=seconds)
    nonce = secrets.token_hex(8)
    url = f"{base_url}/_cas/{nonce}{_owner_mark(server, nonce, claims)}"
    expires = int(time.time()) + seconds
    response.headers.update({"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expires)})
    return {"casUrl": url, "accessToken": token, "exp": expires}


@router.post("/_cas/{session:quoted}/v1/xorbs/{prefix:quoted}/{xorb:quoted}")
async def put_xorb(session: str, prefix: str, xorb: str, request: Request, server: ServerDep) -> wire.Json:
    folder, claims = _session(request, server, session)
    if _HASH.fullmatch(xorb) is None:
        raise MalformedXet(f"{prefix}/{xorb[:80]!r} is not the hash of a xorb.")

    def work(pieces: Iterator[bytes]) -> bool:
        folder.mkdir(parents=True, exist_ok=True)
        _check_room(server, folder, claims)
        incoming = folder / f"incoming-{uuid.uuid4().hex}"
        try:
            with incoming.open("w+b") as file:
                for piece in pieces:
                    file.write(piece)
                read_chunks(file)
            new = not (folder / xorb).exists()
            incoming.rename(folder / xorb)
        finally:
            incoming.unlink(missing_ok=True)
        return new

    return {"was_inserted": await with_body(request, server, work, limit=MAX_XORB)}


@router.post("/_cas/{session:quoted}/v1/shards")
async def put_shard(session: str, request: Request, server: ServerDep) -> wire.Json:
    """Rebuilds the files of the shard, one after the other. Done means: on disk, checked, and the tenant's to use."""
    folder, claims = _session(request, server, session)

    def work(pieces: Iterator[bytes]) -> None:
        stored = [_rebuild(server, folder, file) for file in read_shard(b"".join(pieces))]
        uploads.record(server.home, claims["tenant"], stored)

    await with_body(request, server, work, limit=MAX_SHARD)
    return {"result": 1}


def _session(request: Request, server: Server, session: str) -> tuple[Path, dict[str, Any]]:
    """The session's folder and the token's claims. Raises BadSignature where they are not of one account and repo."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise BadSignature("A Xet token is missing.")
    claims = verify(server.key, token, purpose=PURPOSE)
    nonce, mark = session[:16], session[16:]
    if _NONCE.fullmatch(nonce) is None or not secrets.compare_digest(
        mark.encode("utf-8", "replace"), _owner_mark(server, nonce, claims).encode()
    ):
        raise BadSignature("This Xet token is for another upload.")
    return server.scratch / "xet" / nonce, claims


def _owner_mark(server: Server, nonce: str, claims: dict[str, Any]) -> str:
    return short_mac(server.key, PURPOSE, nonce, claims["account"], claims["repo"])


def _rebuild(server: Server, folder: Path, file: ShardFile) -> StoredBlob:
    if file.size > server.settings.max_file_bytes:
        raise TooLarge(f"A file has {file.size} bytes; at most {server.settings.max_file_bytes} are taken.")
    return server.home.blobs.put_stream(
        _content(folder, file), expected_sha256=file.sha256, expected_size=file.size
    )  # fmt: skip


def _content(folder: Path, file: ShardFile) -> Iterator[bytes]:
    tables = lru_cache(maxsize=64)(lambda xorb: _chunk_table(folder, xorb))
    for term in file.terms:
        chunks = tables(term.xorb)
        if term.end > len(chunks) or sum(chunk.size for chunk in chunks[term.first : term.end]) != term.size:
            raise MalformedXet(f"A shard names chunks that the xorb {term.xorb} does not have.")
        with (folder / term.xorb).open("rb") as xorb:
            for chunk in chunks[term.first : term.end]:
                xorb.seek(chunk.start)
                yield unpack(xorb.read(chunk.packed), chunk)


def _chunk_table(folder: Path, xorb: str) -> list[Chunk]:
    try:
        with (folder / xorb).open("rb") as file:
            return read_chunks(file)
    except FileNotFoundError:
        raise MalformedXet(f"The xorb {xorb} was not uploaded in this session.") from None


def _check_room(server: Server, folder: Path, claims: dict[str, Any]) -> None:
    """A session may hold what its namespace may, and one file of the largest size."""
    held = sum(path.stat().st_size for path in folder.iterdir())
    if held > server.settings.max_file_bytes:
        raise TooLarge(f"An upload may bring {server.settings.max_file_bytes} bytes at once.")
    with server.home.read() as session:
        uploads.check_room(session, server.settings, claims["tenant"], coming=held)
