"""Git LFS: what the client need not send, and signed addresses for what it must.

The PUTs and the completion of a multipart upload come without any token, so their addresses say, signed and for a
short time, what may be stored and for whom.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from hub import access
from hub.actions import commit as commit_action
from hub.actions import uploads
from hub.body import with_body
from hub.errors import NotAllowed, RepoNotFound, UsageError
from hub.hf import wire
from hub.server import BaseUrl, CallerDep, Server, ServerDep
from hub.signing import sign, verify
from storage.blobs import StoredBlob
from storage.errors import CorruptBlob

router = APIRouter()

MEDIA_TYPE = "application/vnd.git-lfs+json"
PUT, PART, COMPLETE, VERIFY = "lfs-put", "lfs-part", "lfs-complete", "lfs-verify"


class LfsObject(BaseModel):
    model_config = ConfigDict(extra="ignore")

    oid: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Batch(BaseModel):
    model_config = ConfigDict(extra="ignore")

    operation: str
    objects: list[LfsObject] = Field(max_length=1000)
    transfers: list[str] = []
    hash_algo: str = "sha256"
    ref: dict[str, Any] | None = None


@router.post("/{ns:quoted}/{repo_git:quoted}/info/lfs/objects/batch")
def batch(ns: str, repo_git: str, body: Batch, server: ServerDep, caller: CallerDep, base_url: BaseUrl) -> Response:
    if not repo_git.endswith(".git"):
        raise RepoNotFound(f"{ns}/{repo_git}", anonymous=caller.anonymous)
    if body.operation != "upload" or body.hash_algo != "sha256":
        raise UsageError("Only uploads by sha256 are done with LFS here; download with /resolve/")
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, repo_git.removesuffix(".git"))
        proposes = not caller.may(repo.account_id, "write")
        commit_action.require_push(caller, repo, "main", as_pull_request=proposes)
        tenant = commit_action.tenant_of(caller, repo)
        usable = commit_action.usable(session, caller, repo, [one.oid for one in body.objects])
        coming = sum(one.size for one in body.objects if one.oid not in usable)
        uploads.check_room(session, server.settings, tenant, coming=coming)
    here = uploads.at_hand(server.home, usable)
    parts = "multipart" in body.transfers and any(o.size > server.settings.multipart_bytes for o in body.objects)
    answers = [
        {"oid": one.oid, "size": one.size}
        if one.oid in here
        else _too_large(server, one) or _upload(server, base_url, one, tenant, parts=parts)
        for one in body.objects
    ]
    return JSONResponse({"transfer": "multipart" if parts else "basic", "objects": answers}, media_type=MEDIA_TYPE)


def _too_large(server: Server, one: LfsObject) -> wire.Json | None:
    if one.size <= server.settings.max_file_bytes:
        return None
    message = f"{one.size} bytes; at most {server.settings.max_file_bytes} are taken"
    return {"oid": one.oid, "size": one.size, "error": {"code": 413, "message": message}}


def _upload(server: Server, base_url: str, one: LfsObject, tenant: int, *, parts: bool) -> wire.Json:
    claims: dict[str, Any] = {"oid": one.oid, "size": one.size, "tenant": tenant}
    actions: wire.Json = {"verify": {"href": f"{base_url}/_lfs/verify/{_signed(server, claims, VERIFY)}"}}
    part_size = server.settings.multipart_bytes
    if parts and one.size > part_size:
        claims |= {"upload": uuid.uuid4().hex, "parts": -(-one.size // part_size)}
        header = {"chunk_size": str(part_size)}
        for number in range(1, claims["parts"] + 1):
            size = min(part_size, one.size - (number - 1) * part_size)
            part = {"upload": claims["upload"], "number": number, "size": size}
            header[f"{number:05d}"] = f"{base_url}/_lfs/part/{_signed(server, part, PART)}"
        actions["upload"] = {"href": f"{base_url}/_lfs/complete/{_signed(server, claims, COMPLETE)}", "header": header}
    else:
        actions["upload"] = {"href": f"{base_url}/_lfs/put/{_signed(server, claims, PUT)}"}
    return {"oid": one.oid, "size": one.size, "actions": actions}


@router.put("/_lfs/put/{signed:quoted}")
async def put(signed: str, request: Request, server: ServerDep) -> wire.Json:
    """Bytes that are not the announced ones are refused and not kept."""
    claims = verify(server.key, signed, purpose=PUT)
    stored = await with_body(request, server, lambda pieces: _store(server, claims, pieces), limit=claims["size"])
    return {"oid": stored.sha256, "size": stored.size}


@router.put("/_lfs/part/{signed:quoted}")
async def put_part(signed: str, request: Request, server: ServerDep) -> Response:
    claims = verify(server.key, signed, purpose=PART)
    folder = server.scratch / "lfs" / claims["upload"]

    def work(pieces: Iterator[bytes]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        incoming = folder / f"{claims['number']}.{uuid.uuid4().hex}"
        try:
            with incoming.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
            if incoming.stat().st_size != claims["size"]:
                raise CorruptBlob(f"A part has {claims['size']} bytes, other than what arrived.")
            incoming.rename(folder / str(claims["number"]))
        finally:
            incoming.unlink(missing_ok=True)

    await with_body(request, server, work, limit=claims["size"])
    return Response(headers={"ETag": f'"{claims["upload"]}-{claims["number"]}"'})


@router.post("/_lfs/complete/{signed:quoted}")
async def complete(signed: str, request: Request, server: ServerDep) -> wire.Json:
    claims = verify(server.key, signed, purpose=COMPLETE)
    await request.body()  # it lists the parts and their ETags, which the digest of the whole makes needless
    folder = server.scratch / "lfs" / claims["upload"]

    def work() -> StoredBlob:
        paths = [folder / str(number) for number in range(1, claims["parts"] + 1)]
        if missing := [path.name for path in paths if not path.is_file()]:
            raise UsageError(f"Parts {', '.join(missing[:5])} of the upload have not arrived")
        stored = _store(server, claims, chain.from_iterable(map(_pieces, paths)))
        shutil.rmtree(folder, ignore_errors=True)
        return stored

    stored = await run_in_threadpool(work)
    return {"oid": stored.sha256, "size": stored.size}


@router.post("/_lfs/verify/{signed:quoted}")
def verify_upload(signed: str, body: LfsObject, server: ServerDep, caller: CallerDep) -> wire.Json:
    claims = verify(server.key, signed, purpose=VERIFY)
    if caller.anonymous:
        raise NotAllowed("Sign in to verify an upload.")
    if (body.oid, body.size) != (claims["oid"], claims["size"]) or server.home.blobs.size(body.oid) != body.size:
        raise UsageError(f"The upload of {body.oid} is not complete")
    return {"oid": body.oid, "size": body.size}


def _store(server: Server, claims: dict[str, Any], pieces: Iterator[bytes]) -> StoredBlob:
    stored = server.home.blobs.put_stream(pieces, expected_sha256=claims["oid"], expected_size=claims["size"])
    uploads.record(server.home, claims["tenant"], [stored])
    return stored


def _signed(server: Server, claims: dict[str, Any], purpose: str) -> str:
    return sign(server.key, claims, purpose=purpose, seconds=server.settings.upload_seconds)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
