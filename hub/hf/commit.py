"""Uploading: what to send how (preupload), and the commit itself."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from hub import access
from hub.actions import commit as commit_action
from hub.actions import uploads
from hub.body import with_body
from hub.hf import wire
from hub.hf.found import flag
from hub.hf.ndjson import read_commit
from hub.server import BaseUrl, CallerDep, ServerDep
from storage import revisions
from storage.blobs import StoredBlob

router = APIRouter()

MAX_COMMIT = 8 * 2**30
"""Bytes of a whole commit request."""


class PreuploadFile(BaseModel):
    model_config = ConfigDict(extra="ignore")

    path: str
    size: int = Field(ge=0)
    sample: str = Field(default="", max_length=64 * 1024)


class Preupload(BaseModel):
    model_config = ConfigDict(extra="ignore")

    files: list[PreuploadFile] = Field(max_length=10_000)
    gitIgnore: str | None = Field(default=None, max_length=1_000_000)  # noqa: N815


@router.post("/api/models/{ns:quoted}/{name:quoted}/preupload/{rev:quoted}")
def preupload(
    ns: str, name: str, rev: str, body: Preupload, request: Request, server: ServerDep, caller: CallerDep
) -> wire.Json:
    """Before any byte moves: may they write, and which files does the branch have already, undamaged."""
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        commit_action.require_push(caller, repo, rev, as_pull_request=flag(request, "create_pr"))
        head = commit_action.branch_head(session, repo, rev)
        asked = {file.path for file in body.files}
        there = {file.path: file for file in revisions.files_of(session, head) if file.path in asked}
    here = uploads.at_hand(server.home, {f.sha256: StoredBlob(f.sha256, f.size, f.git_sha1) for f in there.values()})
    rules = uploads.ignore_rules(body.gitIgnore or "")
    answers: list[wire.Json] = []
    for file in body.files:
        leave_out = rules.match_file(file.path)
        mode = "regular" if leave_out else uploads.upload_mode(file.path, size=file.size, sample=_sample(file.sample))
        answer: wire.Json = {"path": file.path, "uploadMode": mode, "shouldIgnore": leave_out}
        if (old := there.get(file.path)) is not None and old.sha256 in here:
            answer["oid"] = old.sha256 if mode == "lfs" else old.git_sha1
        answers.append(answer)
    return {"files": answers}


@router.post("/api/models/{ns:quoted}/{name:quoted}/commit/{rev:quoted}")
async def commit(
    ns: str, name: str, rev: str, request: Request, server: ServerDep, caller: CallerDep, base_url: BaseUrl
) -> wire.Json:
    as_pull_request = flag(request, "create_pr")
    home = server.home

    def work(pieces: Iterator[bytes]) -> wire.Json:
        with home.read() as session:
            repo = access.visible_repo(session, caller, ns, name)
            commit_action.require_push(caller, repo, rev, as_pull_request=as_pull_request)
            commit_action.branch_head(session, repo, rev)
        blobs: list[StoredBlob] = []

        def store(content: bytes) -> StoredBlob:
            blobs.append(home.blobs.put_stream([content], expected_size=len(content)))
            return blobs[-1]

        words, changes = read_commit(pieces, store=store, max_line=server.settings.max_line_bytes)
        tenant = commit_action.tenant_of(caller, repo)
        with home.read() as session:
            uploads.check_room(session, server.settings, tenant, coming=sum(blob.size for blob in blobs))
        uploads.record(home, tenant, blobs)
        made = commit_action.commit(home, caller, repo, rev, changes, words, as_pull_request=as_pull_request)
        return _answer(made, f"{base_url}/{repo.full_name}")

    return await with_body(request, server, work, limit=MAX_COMMIT)


def _answer(made: commit_action.Committed, repo_url: str) -> wire.Json:
    """The URLs must have the host that the client knows the hub by: it parses them."""
    answer: dict[str, Any] = {
        "success": True,
        "commitOid": made.revision.commit_id,
        "commitUrl": f"{repo_url}/commit/{made.revision.commit_id}",
        "hookOutput": "",
    }
    if made.pull_request is not None:
        answer["pullRequestUrl"] = f"{repo_url}/discussions/{made.pull_request.number}"
    return answer


def _sample(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError):
        return b""
