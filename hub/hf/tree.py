"""The files of a revision: listed by folder, or looked up by path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from hub import access
from hub.access import Caller
from hub.errors import EntryNotFound, UsageError
from hub.hf import wire
from hub.hf.found import flag, page_of, parents_of, revision_of
from hub.hf.mirrored import MirroredDep
from hub.server import BaseUrl, CallerDep, Server, ServerDep
from storage import revisions
from storage.revisions import File, Revision
from storage.upstream import UpstreamRevision

router = APIRouter()

MAX_FORM = 8 * 2**20
MAX_HISTORY = 500
"""Commits that are looked through to say which one last changed a file."""


@router.get("/api/models/{ns:quoted}/{name:quoted}/tree/{rev:quoted}")
def tree(
    ns: str, name: str, rev: str, request: Request, response: Response, server: ServerDep, caller: CallerDep,
    base_url: BaseUrl, mirrored: MirroredDep,
) -> Sequence[wire.Json]:  # fmt: skip
    return _tree(ns, name, rev, "", request, response, server, caller, base_url, mirrored)


@router.get("/api/models/{ns:quoted}/{name:quoted}/tree/{rev:quoted}/{path:rest}")
def subtree(
    ns: str, name: str, rev: str, path: str, request: Request, response: Response, server: ServerDep,
    caller: CallerDep, base_url: BaseUrl, mirrored: MirroredDep,
) -> Sequence[wire.Json]:  # fmt: skip
    return _tree(ns, name, rev, path.strip("/"), request, response, server, caller, base_url, mirrored)


@router.post("/api/models/{ns:quoted}/{name:quoted}/paths-info/{rev:quoted}")
async def paths_info(
    ns: str, name: str, rev: str, request: Request, server: ServerDep, caller: CallerDep, mirrored: MirroredDep
) -> list[wire.Json]:
    """A form from the Python client, JSON from others. Unknown paths are left out of the answer."""
    body = await request.body()
    if len(body) > MAX_FORM:
        raise UsageError("Too many paths in one request")
    if request.headers.get("content-type", "").startswith("application/json"):
        paths, expand = _paths_of(body)
    else:
        form = parse_qs(body.decode("utf-8", "replace"))
        paths, expand = form.get("paths", []), form.get("expand", ["false"])[-1].lower() in ("true", "1")
    if mirrored is not None:
        return _named(mirrored.files, paths)
    return await run_in_threadpool(_paths_info, server, caller, (ns, name, rev), paths, expand)


def _paths_of(body: bytes) -> tuple[list[str], bool]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError("The request is not JSON") from error
    paths = data.get("paths") if isinstance(data, dict) else None
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise UsageError("The request has no paths, a list of texts")
    return paths, bool(data.get("expand"))


def _paths_info(
    server: Server, caller: CallerDep, where: tuple[str, str, str], paths: Iterable[str], expand: bool
) -> list[wire.Json]:
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, where[0], where[1])
        revision = revision_of(session, repo, where[2])
        found = _named(revisions.files_of(session, revision), paths)
        return _with_last_commit(session, revision, found) if expand else found


def _named(files: Sequence[File], paths: Iterable[str]) -> list[wire.Json]:
    entries = {entry["path"]: entry for entry in _entries(files, "", recursive=True)}
    return [entries[path] for path in dict.fromkeys(p.strip("/") for p in paths) if path in entries]


def _tree(
    ns: str, name: str, rev: str, folder: str, request: Request, response: Response, server: Server,
    caller: Caller, base_url: str, mirrored: UpstreamRevision | None,
) -> Sequence[wire.Json]:  # fmt: skip
    size = server.settings.page_size
    if mirrored is not None:
        entries = _listed(mirrored, mirrored.files, folder, request)
        return page_of(entries, request, response, base_url=base_url, size=size)
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        revision = revision_of(session, repo, rev)
        entries = _listed(revision, revisions.files_of(session, revision), folder, request)
        page = page_of(entries, request, response, base_url=base_url, size=size)
        return _with_last_commit(session, revision, page) if flag(request, "expand") else page


def _listed(
    revision: Revision | UpstreamRevision, files: Sequence[File], folder: str, request: Request
) -> list[wire.Json]:
    entries = _entries(files, folder, recursive=flag(request, "recursive"))
    if folder and not entries:
        raise EntryNotFound(f"There is no folder {folder!r} at {revision.commit_id}.", commit_id=revision.commit_id)
    return entries


def _entries(files: Sequence[File], folder: str, *, recursive: bool) -> list[wire.Json]:
    """Files and folders below `folder`, by path, with paths from the root."""
    start = f"{folder}/" if folder else ""
    inside = [file for file in files if file.path.startswith(start)]
    folders: dict[str, list[File]] = {}
    for file in inside:
        for parent in parents_of(file.path):
            if parent.startswith(start) and (recursive or "/" not in parent[len(start) :]):
                folders.setdefault(parent, []).append(file)
    listed = [wire.folder_entry(path, below) for path, below in folders.items()]
    listed += [wire.file_entry(f) for f in inside if recursive or "/" not in f.path[len(start) :]]
    return sorted(listed, key=lambda entry: str(entry["path"]))


def _with_last_commit(session: Session, revision: Revision, entries: Sequence[wire.Json]) -> list[wire.Json]:
    """Each entry with the newest commit that changed it, or anything below it."""
    history = revisions.log(session, revision, limit=MAX_HISTORY)
    last: dict[str, Revision] = {}
    wanted = {str(entry["path"]) for entry in entries}
    now = {file.path: file.sha256 for file in revisions.files_of(session, history[0])}
    for i, commit in enumerate(history):
        older = history[i + 1] if i + 1 < len(history) else None
        before = {f.path: f.sha256 for f in revisions.files_of(session, older)} if older else {}
        for path in now.keys() | before.keys():
            if now.get(path) != before.get(path):
                for place in (path, *parents_of(path)):
                    last.setdefault(place, commit)
        if older is None or wanted <= last.keys():
            break
        now = before
    return [
        {**entry, "lastCommit": _short(last.get(str(entry["path"]), history[-1]))} for entry in entries
    ]  # fmt: skip


def _short(commit: Revision) -> wire.Json:
    return {"id": commit.commit_id, "title": commit.title, "date": wire.date(commit.created_at)}
