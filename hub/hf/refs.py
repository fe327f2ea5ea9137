"""Branches, tags, the log, and squashing it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from hub import access
from hub.access import Caller
from hub.actions.record_content import copy_content
from hub.errors import NotAllowed, RevisionNotFound, UsageError
from hub.hf import wire
from hub.hf.found import flag, page_of, revision_of
from hub.server import BaseUrl, CallerDep, ServerDep
from storage import aliases, names, refs, revisions, versions
from storage.errors import AlreadyExists, NotFound
from storage.pull_requests import PREFIX
from storage.repos import Repo

router = APIRouter()

COMMITS_PER_PAGE = 50


@router.get("/api/models/{ns:quoted}/{name:quoted}/refs")
def list_refs(ns: str, name: str, request: Request, server: ServerDep, caller: CallerDep) -> wire.Json:
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        every = refs.every(session, repo)
        named = aliases.every(session, repo)
    branches = [ref for ref in every if ref.kind == "branch"]
    found: wire.Json = {
        "branches": [_ref(r.name, f"refs/heads/{r.name}", r.commit_id) for r in branches if PREFIX not in r.name],
        "tags": [_ref(r.name, f"refs/tags/{r.name}", r.commit_id) for r in every if r.kind == "tag"],
        "converts": [],
        "aliases": [_ref(alias, f"refs/aliases/{alias}", commit_id) for alias, commit_id in named.items()],
    }
    if flag(request, "include_prs"):
        found["pullRequests"] = [
            _ref(r.name.removeprefix(PREFIX), r.name, r.commit_id) for r in branches if r.name.startswith(PREFIX)
        ]
    return found


@router.get("/api/models/{ns:quoted}/{name:quoted}/commits/{rev:quoted}")
def list_commits(
    ns: str, name: str, rev: str, request: Request, response: Response, server: ServerDep, caller: CallerDep,
    base_url: BaseUrl,
) -> Sequence[wire.Json]:  # fmt: skip
    formatted = any("formatted" in value for value in request.query_params.getlist("expand[]"))
    formatted = formatted or "formatted" in request.query_params.getlist("expand")
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        log = revisions.log(session, revision_of(session, repo, rev))
    size = min(COMMITS_PER_PAGE, server.settings.page_size)
    page = page_of([wire.commit_entry(one) for one in log], request, response, base_url=base_url, size=size)
    if formatted:
        page = [{**one, "formatted": {key: escape(one[key]) for key in ("title", "message")}} for one in page]
    return page


@router.post("/api/models/{ns:quoted}/{name:quoted}/branch/{branch:quoted}")
def create_branch(
    ns: str, name: str, branch: str, server: ServerDep, caller: CallerDep, body: dict[str, Any] | None = None
) -> wire.Json:
    if branch.startswith("refs/"):
        raise UsageError("A branch may not be called refs/...")
    with server.home.write() as session:
        repo = _writable(session, caller, ns, name)
        start = revision_of(session, repo, str((body or {}).get("startingPoint") or "main"))
        made = refs.create_branch(session, repo, branch, revision_id=start.id)
    return _ref(made.name, f"refs/heads/{made.name}", made.commit_id)


@router.delete("/api/models/{ns:quoted}/{name:quoted}/branch/{branch:quoted}")
def delete_branch(ns: str, name: str, branch: str, server: ServerDep, caller: CallerDep) -> wire.Json:
    with server.home.write() as session:
        repo = _writable(session, caller, ns, name)
        if branch == revisions.MAIN:
            raise NotAllowed(f"The branch main of {repo.full_name} cannot be deleted.")
        try:
            refs.delete_branch(session, repo, branch)
        except NotFound as error:
            raise RevisionNotFound(error.message) from error
    return {"ok": True}


@router.post("/api/models/{ns:quoted}/{name:quoted}/tag/{rev:quoted}")
def create_tag(ns: str, name: str, rev: str, body: dict[str, Any], server: ServerDep, caller: CallerDep) -> wire.Json:
    """A tag v1, v2 ... is a version: it never moves, and never becomes other content."""
    tag, message = str(body.get("tag", "")), body.get("message")
    if tag.startswith("refs/"):
        raise UsageError("A tag may not be called refs/...")
    words = message if isinstance(message, str) else None
    with server.home.write() as session:
        repo = _writable(session, caller, ns, name)
        revision = revision_of(session, repo, rev)
        number = names.version_number(tag)
        if number is None:
            made = refs.create_tag(session, repo, tag, revision_id=revision.id, message=words)
            return _ref(made.name, f"refs/tags/{made.name}", made.commit_id)
        if refs.find(session, repo, tag) is not None:
            raise AlreadyExists(f"{repo.full_name} has the version {tag} already.")
        given = versions.give(session, repo, revision, number=number, message=words)
        return _ref(given.name, f"refs/tags/{given.name}", given.commit_id)


@router.delete("/api/models/{ns:quoted}/{name:quoted}/tag/{tag:quoted}")
def delete_tag(ns: str, name: str, tag: str, server: ServerDep, caller: CallerDep) -> wire.Json:
    with server.home.write() as session:
        repo = _writable(session, caller, ns, name)
        number = names.version_number(tag)
        try:
            if number is None:
                refs.delete_tag(session, repo, tag)
            else:
                versions.delete(session, repo, number, actor=caller.name)
        except NotFound as error:
            raise RevisionNotFound(error.message) from error
    return {"ok": True}


@router.post("/api/models/{ns:quoted}/{name:quoted}/super-squash/{branch:quoted}")
def super_squash(
    ns: str, name: str, branch: str, server: ServerDep, caller: CallerDep, body: dict[str, Any] | None = None
) -> wire.Json:
    """The branch begins anew with its present files; older commits stay readable by id, and under their tags."""
    title = str((body or {}).get("message") or f"Squash history of {branch}")
    with server.home.write() as session:
        repo = _writable(session, caller, ns, name)
        head = revision_of(session, repo, branch)
        try:
            new = revisions.squash(session, repo, branch, author=caller.name, title=title)
        except NotFound as error:
            raise RevisionNotFound(error.message) from error
        copy_content(session, head, new)
    return {"sha": new.commit_id}


def _writable(session: Session, caller: Caller, ns: str, name: str) -> Repo:
    repo = access.visible_repo(session, caller, ns, name)
    access.require(caller, repo, "write")
    return repo


def _ref(name: str, ref: str, commit_id: str) -> wire.Json:
    return {"name": name, "ref": ref, "targetCommit": commit_id}
