"""Downloads: one file of one revision, whole or in part, straight from the blobs."""

from __future__ import annotations

import re
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session
from starlette.background import BackgroundTask

from hub import access, http_errors
from hub.errors import EntryNotFound, RepoNotFound
from hub.hf.closing_response import ClosingResponse
from hub.hf.found import revision_of
from hub.server import CallerDep, Server, ServerDep
from storage import accounts, repos, revisions
from storage.errors import InvalidName, NotFound
from storage.names import check_path
from storage.repos import Repo
from storage.revisions import File, Revision

router = APIRouter()

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_TEXT = frozenset({".json", ".jsonl", ".md", ".txt", ".yaml", ".yml", ".py", ".jinja", ".toml", ".csv"})
_COUNTED = re.compile(r"(?:^|/)(?:adapter_model|model)[^/]*\.safetensors$")


@router.head("/{ns:quoted}/{name:quoted}/resolve/{rev:quoted}/{path:rest}")
@router.get("/{ns:quoted}/{name:quoted}/resolve/{rev:quoted}/{path:rest}")
def resolve(
    ns: str, name: str, rev: str, path: str, request: Request, server: ServerDep, caller: CallerDep
) -> Response:
    with server.home.read() as session:
        repo = _repo(session, caller, ns, name)
        if (repo.account.lower(), repo.name.lower()) != (ns.lower(), name.lower()):
            target = "/".join(quote(part, safe="") for part in (repo.account, repo.name, "resolve", rev))
            return RedirectResponse(f"{request.state.prefix}/{target}/{quote(path)}", status_code=307)
        revision = revision_of(session, repo, rev)
        access.require_files(session, caller, repo)
        file = revisions.file_at(session, revision, path) if _is_path(path) else None
    if file is None:
        raise EntryNotFound(f"{repo.full_name}@{rev} has no file {path!r}.", commit_id=revision.commit_id)
    headers = _headers(repo, revision, file, exact=rev == revision.commit_id)
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(file.size)})
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


def _headers(repo: Repo, revision: Revision, file: File, *, exact: bool) -> dict[str, str]:
    """Never a type that a browser would run: the content is a stranger's."""
    suffix = "." + file.path.rpartition(".")[2].lower()
    name = file.path.rpartition("/")[2]
    scope = "public" if repo.visibility == "public" and repo.gated is None else "private"
    headers = {
        "X-Repo-Commit": revision.commit_id,
        "ETag": f'"{file.sha256 if file.upload_mode == "lfs" else file.git_sha1}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "text/plain; charset=utf-8" if suffix in _TEXT else "application/octet-stream",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": f"{scope}, max-age=31536000, immutable" if exact else "no-cache",
    }
    if file.upload_mode == "lfs":
        headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(file.size)}
    return headers


def _content(request: Request, server: Server, repo: Repo, file: File, headers: dict[str, str]) -> Response:
    counted = _COUNTED.search(file.path) and "x-hf-download-counter" in request.headers
    elsewhere = _elsewhere(server, file, headers)
    if elsewhere is not None:
        elsewhere.background = BackgroundTask(_count, server, repo) if counted else None
        return elsewhere
    asked = request.headers.get("range")
    same = request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
    span = _span(asked, file.size) if asked and same else None
    if span == "unsatisfiable":
        refused = http_errors.response(416, f"{file.path} has {file.size} bytes.")
        refused.headers["Content-Range"] = f"bytes */{file.size}"
        return refused
    start, end = span if isinstance(span, tuple) else (0, file.size)
    headers["Content-Length"] = str(end - start)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    return ClosingResponse(
        server.home.blobs.iterate(file.sha256, start=start, end=end),
        status_code=200 if span is None else 206,
        headers=headers,
        background=BackgroundTask(_count, server, repo) if counted and start == 0 else None,
    )


def _elsewhere(server: Server, file: File, headers: dict[str, str]) -> Response | None:
    """The store itself, or the proxy before this server, sends the bytes, where it is set up so."""
    settings, blobs = server.settings, server.home.blobs
    if settings.redirect_downloads and (url := blobs.download_url(file.sha256, seconds=settings.upload_seconds)):
        linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(file.size)}
        return RedirectResponse(url, status_code=302, headers={**headers, **linked, "Cache-Control": "no-store"})
    if settings.accel_prefix and blobs.local_path(file.sha256) is not None:
        inside = f"{settings.accel_prefix.rstrip('/')}/{file.sha256[:2]}/{file.sha256}"
        return Response(headers={**headers, "X-Accel-Redirect": inside})
    return None


def _span(header: str, size: int) -> tuple[int, int] | str | None:
    """[start, end) of a single range, held to the file; None: not a range that we serve, so the whole file goes."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    return (start, end) if start < end else "unsatisfiable"


def _count(server: Server, repo: Repo) -> None:
    with server.home.write() as session:
        repos.count_download(session, repo)
