"""Downloads: one file of one revision, whole or in part, straight from the blobs."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session
from starlette.background import BackgroundTask

from hub import access
from hub.errors import EntryNotFound, RepoNotFound
from hub.hf.found import revision_of
from hub.hf.mirrored import MirroredDep
from hub.hf.mirrored import resolve as resolve_mirrored
from hub.hf.send_file import file_headers, send
from hub.server import CallerDep, Server, ServerDep
from storage import accounts, damage, repos, revisions
from storage.errors import CannotStore, DamagedBlob, InvalidName, NotFound
from storage.names import check_path
from storage.repos import Repo
from storage.revisions import File

router = APIRouter()

_COUNTED = re.compile(r"(?:^|/)(?:adapter_model|model)[^/]*\.safetensors$")


@router.head("/{ns:quoted}/{name:quoted}/resolve/{rev:quoted}/{path:rest}")
@router.get("/{ns:quoted}/{name:quoted}/resolve/{rev:quoted}/{path:rest}")
def resolve(
    ns: str, name: str, rev: str, path: str, request: Request, server: ServerDep, caller: CallerDep,
    mirrored: MirroredDep,
) -> Response:  # fmt: skip
    if mirrored is not None:
        return resolve_mirrored(request, server, mirrored, path)
    with server.home.read() as session:
        repo = _repo(session, caller, ns, name)
        if (repo.account.lower(), repo.name.lower()) != (ns.lower(), name.lower()):
            target = "/".join(quote(part, safe="") for part in (repo.account, repo.name, "resolve", rev))
            return RedirectResponse(f"{request.state.prefix}/{target}/{quote(path)}", status_code=307)
        revision = revision_of(session, repo, rev)
        access.require_files(session, caller, repo)
        file = revisions.file_at(session, revision, path) if _is_path(path) else None
        whole = file is not None and damage.ever(session, file.sha256)
    if file is None:
        raise EntryNotFound(f"{repo.full_name}@{rev} has no file {path!r}.", commit_id=revision.commit_id)
    public = repo.visibility == "public" and repo.gated is None
    headers = file_headers(file, revision.commit_id, public=public, exact=rev == revision.commit_id, whole=whole)
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(file.size)})
    with DamagedBlob.named(file.path):
        server.home.blobs.expect(file.sha256, file.size)
        return _content(request, server, repo, file, headers)


@router.head("/{name:quoted}/resolve/{rev:quoted}/{path:rest}")
@router.get("/{name:quoted}/resolve/{rev:quoted}/{path:rest}")
def resolve_unnamespaced(name: str, rev: str, path: str, _caller: CallerDep) -> None:
    raise NotFound(f"There is no repo {name} here ({rev}/{path}).")


def _is_path(path: str) -> bool:
    try:
        check_path(path)
    except InvalidName:
        return False
    return True


def _repo(session: Session, caller: CallerDep, ns: str, name: str) -> Repo:
    """Repos of namespaces that this hub does not have are missing without a code.

    With the code RepoNotFound, transformers would not load a base model that is in the client's cache.
    """
    try:
        return access.visible_repo(session, caller, ns, name)
    except RepoNotFound:
        try:
            accounts.find(session, ns)
        except NotFound:
            raise NotFound(f"There is no repo {ns}/{name} here.") from None
        raise


def _content(request: Request, server: Server, repo: Repo, file: File, headers: dict[str, str]) -> Response:
    counted = _COUNTED.search(file.path) and "x-hf-download-counter" in request.headers
    elsewhere = _elsewhere(server, file, headers) if headers["Accept-Ranges"] == "bytes" else None
    if elsewhere is not None:
        elsewhere.background = BackgroundTask(_count, server, repo) if counted else None
        return elsewhere
    blobs = server.home.blobs
    count = BackgroundTask(_count, server, repo) if counted else None
    return send(
        request, file, headers, lambda start, end: blobs.iterate(file.sha256, start=start, end=end), background=count
    )


def _elsewhere(server: Server, file: File, headers: dict[str, str]) -> Response | None:
    """The store itself, or the proxy before this server, sends the bytes, where it is set up so.

    They are digested before, once while the blob stays the same file or object, and not on their way."""
    settings, blobs = server.settings, server.home.blobs
    if settings.redirect_downloads and (url := blobs.download_url(file.sha256, seconds=settings.upload_seconds)):
        linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(file.size)}
        return RedirectResponse(url, status_code=302, headers={**headers, **linked, "Cache-Control": "no-store"})
    if settings.accel_prefix and blobs.local_path(file.sha256) is not None:
        inside = f"{settings.accel_prefix.rstrip('/')}/{file.sha256[:2]}/{file.sha256}"
        return Response(headers={**headers, "X-Accel-Redirect": inside})
    return None


def _count(server: Server, repo: Repo) -> None:
    with suppress(CannotStore), server.home.write() as session:
        repos.count_download(session, repo)
