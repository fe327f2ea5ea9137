"""Facts about one repo, and lists of repos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from hub import access
from hub.access import Caller
from hub.hf import wire
from hub.hf.found import flag, next_link, number, revision_of
from hub.hf.mirrored import MirroredDep
from hub.hf.mirrored import model_info as model_info_of
from hub.server import BaseUrl, CallerDep, Server, ServerDep
from storage import adapters, repo_listing, revisions, summaries
from storage.adapters import AdapterFacts
from storage.repo_listing import ListedRepo, RepoFilter
from storage.repos import Repo
from storage.revisions import Revision
from storage.upstream import UpstreamRevision

router = APIRouter()

MAX_LIMIT = 1000


@router.get("/api/models")
def list_models(
    request: Request, response: Response, server: ServerDep, caller: CallerDep, base_url: BaseUrl
) -> list[wire.Json]:
    """Unknown parameters are passed over: new clients ask for what nobody knows yet."""
    query = request.query_params
    tags = [tag for value in query.getlist("filter") for tag in value.split(",") if tag]
    tags += [value for value in (query.get("pipeline_tag"), query.get("library")) if value]
    filters = RepoFilter(
        author=query.get("author") or None,
        text=query.get("search") or None,
        tags=tuple(tags),
        gated=flag(request, "gated") if "gated" in query else None,
        readers=caller.readers,
    )
    page = min(server.settings.page_size, MAX_LIMIT)
    limit = number(request, "limit", default=page, least=1, most=page)
    start = number(request, "cursor", default=0, least=0, most=10**9)
    full = flag(request, "full")
    with server.home.read() as session:
        found = repo_listing.find_repos(session, filters, sort=query.get("sort"), limit=limit + 1, offset=start)
        if len(found) > limit:
            response.headers["Link"] = next_link(request, base_url, start + limit)
        return _listed(session, found[:limit], full=full or "siblings" in query.getlist("expand"))


@router.get("/api/models/{ns:quoted}/{name:quoted}")
def model_info(
    ns: str, name: str, request: Request, server: ServerDep, caller: CallerDep, mirrored: MirroredDep
) -> wire.Json:
    return _info(ns, name, "main", request, server, caller, mirrored)


@router.get("/api/models/{ns:quoted}/{name:quoted}/revision/{rev:quoted}")
def model_info_at(
    ns: str, name: str, rev: str, request: Request, server: ServerDep, caller: CallerDep, mirrored: MirroredDep
) -> wire.Json:
    return _info(ns, name, rev, request, server, caller, mirrored)


def _info(
    ns: str, name: str, rev: str, request: Request, server: Server, caller: Caller, mirrored: UpstreamRevision | None
) -> wire.Json:
    if mirrored is not None:
        return model_info_of(mirrored, blobs=flag(request, "blobs"))
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        revision = revision_of(session, repo, rev)
        files = revisions.files_of(session, revision)
        card, tags = summaries.card_of(session, revision.id), summaries.tags_of(session, [revision.id])
        found = adapters.facts_of_all(session, [revision.id])[revision.id]
    used = sum({file.sha256: file.size for file in files}.values())
    shown = _shown(repo, revision, card, tags.get(revision.id, []), found, used_storage=used)
    shown["siblings"] = wire.siblings(files, blobs=flag(request, "blobs"))
    if revision.state != "ok":
        shown["mixhub"] = {"state": revision.state, "reason": revision.reason}
    return shown


def _listed(session: Session, page: Sequence[ListedRepo], *, full: bool) -> list[wire.Json]:
    """A page of repos, in a fixed number of queries."""
    heads = [one.revision.id for one in page]
    tags, found = summaries.tags_of(session, heads), adapters.facts_of_all(session, heads)
    files = revisions.files_of_all(session, heads) if full else {}
    shown = []
    for one in page:
        head = one.revision.id
        info = _shown(one.repo, one.revision, one.card, tags.get(head, []), found[head])
        shown.append(info | {"siblings": wire.siblings(files[head], blobs=False)} if full else info)
    return shown


def _shown(
    repo: Repo, revision: Revision, card: Mapping[str, Any] | None, tags: Sequence[str],
    found: Sequence[AdapterFacts], **more: Any,
) -> wire.Json:  # fmt: skip
    return wire.model_info(
        repo, commit_id=revision.commit_id, modified=revision.created_at, card=card, tags=tags, adapters=found, **more
    )
