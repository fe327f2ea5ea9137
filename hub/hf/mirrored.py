"""Repos that are not here but upstream: the same answers as for those that are, by the routes that only read."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Request, Response

from hub import access
from hub.errors import EntryNotFound, RepoNotFound
from hub.hf import wire
from hub.hf.send_file import file_headers, send
from hub.server import CallerDep, Server, ServerDep
from hub.upstream import HOP
from storage.errors import DamagedBlob
from storage.upstream import UpstreamRevision


def mirrored_for(request: Request, server: ServerDep, caller: CallerDep) -> UpstreamRevision | None:
    """The upstream's revision that the request is about. None: the repo is here, or not to be had upstream.

    Which of the two does not depend on private repos of others here, so nobody learns of them.
    """
    where = request.path_params
    mirror = server.mirror
    if mirror is None or HOP in request.headers or not mirror.allows(f"{where['ns']}/{where['name']}"):
        return None
    with server.home.read() as session:
        try:
            access.visible_repo(session, caller, where["ns"], where["name"])
            return None
        except RepoNotFound:
            pass
    name = str(where.get("rev", "main")).removeprefix("refs/heads/").removeprefix("refs/tags/")
    return mirror.find(f"{where['ns']}/{where['name']}", name)


MirroredDep = Annotated[UpstreamRevision | None, Depends(mirrored_for)]


def model_info(revision: UpstreamRevision, *, blobs: bool) -> wire.Json:
    namespace = revision.full_name.partition("/")[0]
    return {
        **revision.info, "id": revision.full_name, "modelId": revision.full_name, "author": namespace,
        "sha": revision.commit_id, "private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0,
        "tags": revision.info.get("tags") or [], "siblings": wire.siblings(revision.files, blobs=blobs),
        "usedStorage": sum(file.size for file in revision.files), "mixhub": {"upstream": True},
    }  # fmt: skip


def resolve(request: Request, server: Server, revision: UpstreamRevision, path: str) -> Response:
    file = next((file for file in revision.files if file.path == path), None)
    if file is None:
        raise EntryNotFound(f"{revision.full_name} has no file {path!r}.", commit_id=revision.commit_id)
    exact = request.path_params["rev"] == revision.commit_id
    blobs, mirror = server.home.blobs, server.mirror
    kept = mirror.kept(revision, file) if mirror is not None else None
    whole = kept is not None and kept.ever_damaged
    headers = file_headers(file, revision.commit_id, public=True, exact=exact, whole=whole)
    if request.method == "HEAD" or mirror is None:
        return Response(headers={**headers, "Content-Length": str(file.size)})
    if kept is not None and kept.sound:
        with suppress(DamagedBlob):  # then it is fetched again
            return send(
                request, file, headers,
                lambda start, end: blobs.iterate(kept.sha256, start=start, end=end, size=file.size),
            )  # fmt: skip
    if file.size == 0:
        return Response(headers={**headers, "Content-Length": "0"})
    return send(request, file, headers, mirror.fetch(revision, file).read)
