"""Listing a repo's large files over all its commits, and letting go of those that nothing leads to any more."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from hub import access
from hub.hf import wire
from hub.hf.found import page_of
from hub.server import BaseUrl, CallerDep, ServerDep
from storage import lfs_files

router = APIRouter()


class Deletions(BaseModel):
    model_config = ConfigDict(extra="ignore")

    sha: list[str] = Field(min_length=1, max_length=1000)
    rewriteHistory: bool = True  # noqa: N815
    """Taken and not followed: commits never change here, they go or they stay."""


class LfsFilesBatch(BaseModel):
    deletions: Deletions


@router.get("/api/models/{ns:quoted}/{name:quoted}/lfs-files")
def list_lfs_files(
    ns: str, name: str, request: Request, response: Response, server: ServerDep, caller: CallerDep, base_url: BaseUrl
) -> Sequence[wire.Json]:
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        access.require_files(session, caller, repo)
        found = lfs_files.every(session, repo)
    listed = [
        {
            "fileOid": one.sha256, "filename": one.path, "oid": one.pointer_sha1, "size": one.size,
            "pushedAt": wire.date(one.pushed_at), "ref": one.branch and f"refs/heads/{one.branch}",
        }
        for one in found
    ]  # fmt: skip
    return page_of(listed, request, response, base_url=base_url, size=server.settings.page_size)


@router.post("/api/models/{ns:quoted}/{name:quoted}/lfs-files/batch")
def delete_lfs_files(ns: str, name: str, body: LfsFilesBatch, server: ServerDep, caller: CallerDep) -> wire.Json:
    with server.home.write() as session:
        repo = access.visible_repo(session, caller, ns, name)
        access.require(caller, repo, "admin")
        return {"commits": lfs_files.remove(session, repo, set(body.deletions.sha))}
