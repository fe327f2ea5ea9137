"""Creating, deleting, moving repos and their settings."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from hub import access
from hub.actions import repos as repo_actions
from hub.errors import SignInFirst, UsageError
from hub.hf import wire
from hub.server import BaseUrl, CallerDep, ServerDep
from storage import access_requests, accounts, repo_listing, repo_sizes
from storage.errors import AlreadyExists
from storage.repo_listing import RepoFilter

router = APIRouter()


class RepoName(BaseModel):
    """How clients name a repo in a body; `organization` None: their own namespace."""

    model_config = ConfigDict(extra="ignore")

    name: str
    organization: str | None = None
    type: str | None = None
    visibility: Literal["public", "private"] | None = None
    private: bool | None = None
    """Of clients before 1.0."""

    def parts(self, caller_name: str) -> tuple[str, str]:
        _models_only(self.type)
        namespace, slash, name = self.name.partition("/")
        if slash:
            return namespace, name
        return self.organization or caller_name, self.name


class Move(BaseModel):
    fromRepo: str  # noqa: N815
    toRepo: str  # noqa: N815
    type: str | None = None


class RepoSettings(BaseModel):
    model_config = ConfigDict(extra="ignore")

    visibility: Literal["public", "private"] | None = None
    private: bool | None = None
    gated: Literal["auto", "manual", False] | None = None


@router.post("/api/repos/create")
def create(body: RepoName, server: ServerDep, caller: CallerDep, base_url: BaseUrl) -> Response:
    if caller.anonymous:
        raise SignInFirst("Sign in to make a repo.", remedy="hf auth login")
    namespace, name = body.parts(caller.name)
    url = f"{base_url}/{namespace}/{name}"
    visibility = body.visibility or ("private" if body.private else "public")
    try:
        repo = repo_actions.create(server.home, caller, namespace, name, visibility=visibility)
    except AlreadyExists as error:
        # `exist_ok` reads the url
        return JSONResponse(
            {"error": error.message, "url": url}, status_code=409, headers={"X-Error-Message": error.message}
        )
    return JSONResponse({"url": f"{base_url}/{repo.full_name}", "name": repo.full_name, "id": repo.uuid[:24]})


@router.delete("/api/repos/delete")
def delete(body: RepoName, server: ServerDep, caller: CallerDep) -> wire.Json:
    repo_actions.delete(server.home, caller, *body.parts(caller.name))
    return {"ok": True}


@router.post("/api/repos/move")
def move(body: Move, server: ServerDep, caller: CallerDep, base_url: BaseUrl) -> wire.Json:
    _models_only(body.type)
    moved = repo_actions.move(server.home, caller, _split(body.fromRepo), _split(body.toRepo))
    return {"url": f"{base_url}/{moved.full_name}"}


@router.put("/api/models/{ns:quoted}/{name:quoted}/settings")
def settings(ns: str, name: str, body: RepoSettings, server: ServerDep, caller: CallerDep) -> wire.Json:
    visibility = body.visibility
    if visibility is None and body.private is not None:
        visibility = "private" if body.private else "public"
    repo = repo_actions.set_access(server.home, caller, ns, name, visibility=visibility, gated=body.gated)
    return {"visibility": repo.visibility, "private": repo.visibility == "private", "gated": repo.gated or False}


@router.post("/api/models/{ns:quoted}/{name:quoted}/duplicate")
def duplicate(
    ns: str, name: str, body: dict[str, Any], server: ServerDep, caller: CallerDep, base_url: BaseUrl
) -> wire.Json:
    private = body.get("visibility") == "private" or body.get("private") is True
    target = _split(str(body.get("repository", "")))
    made = repo_actions.duplicate(
        server.home, caller, (ns, name), target, visibility="private" if private else "public"
    )  # fmt: skip
    return {"url": f"{base_url}/{made.full_name}"}


@router.get("/api/settings/repositories")
def own_repositories(server: ServerDep, caller: CallerDep) -> list[wire.Json]:
    if caller.anonymous:
        raise SignInFirst("Sign in to list your repos.", remedy="hf auth login")
    return _repositories(server, caller, caller.name)


@router.get("/api/organizations/{org:quoted}/settings/repositories")
def org_repositories(org: str, server: ServerDep, caller: CallerDep) -> list[wire.Json]:
    return _repositories(server, caller, org)


@router.post("/{ns:quoted}/{name:quoted}/ask-access")
def ask_access(ns: str, name: str, server: ServerDep, caller: CallerDep) -> wire.Json:
    """Gated `auto` grants at once, `manual` waits for an answer."""
    if caller.account is None:
        raise SignInFirst("Sign in to ask for access.", remedy="hf auth login")
    with server.home.write() as session:
        repo = access.visible_repo(session, caller, ns, name)
        known = access_requests.status(session, repo, caller.account.id)
        status = known or ("pending" if repo.gated == "manual" else "accepted")
        if known is None:
            access_requests.put(session, repo, caller.account, status)
    return {"status": status}


@router.get("/api/models/{ns:quoted}/{name:quoted}/user-access-request/{status:quoted}")
def access_requests_of(ns: str, name: str, status: str, server: ServerDep, caller: CallerDep) -> list[wire.Json]:
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        access.require(caller, repo, "admin")
        return [
            {
                "requestId": f"{repo.uuid[:24]}-{user}", "user": {"user": user, "fullname": user, "email": None},
                "timestamp": wire.date(at), "status": status,
            }
            for user, at in access_requests.listed(session, repo, status)
        ]  # fmt: skip


@router.post("/api/models/{ns:quoted}/{name:quoted}/user-access-request/{answer:quoted}")
def answer_access_request(
    ns: str, name: str, answer: str, body: dict[str, Any], server: ServerDep, caller: CallerDep
) -> wire.Json:
    """`handle` sets the status that the body names, `grant` lets somebody in who never asked."""
    status = "accepted" if answer == "grant" else str(body.get("status", ""))
    if status not in ("accepted", "rejected", "pending"):
        raise UsageError(f"{status[:40]!r} is not accepted, rejected or pending")
    with server.home.write() as session:
        repo = access.visible_repo(session, caller, ns, name)
        access.require(caller, repo, "admin")
        access_requests.put(session, repo, accounts.find(session, str(body.get("user", ""))), status)
    return {"status": status}


def _repositories(server: ServerDep, caller: CallerDep, namespace: str) -> list[wire.Json]:
    filters = RepoFilter(author=namespace, readers=caller.readers)
    with server.home.read() as session:
        found = repo_listing.find_repos(session, filters, sort="lastModified", limit=10_000)
        held = repo_sizes.held_bytes(session, [one.repo.id for one in found])
        in_all = sum(held.values()) or 1
        return [
            {
                "id": one.repo.full_name, "type": "model", "visibility": one.repo.visibility,
                "updatedAt": wire.date(one.revision.created_at),
                "storage": held.get(one.repo.id, 0), "storagePercent": 100 * held.get(one.repo.id, 0) / in_all,
            }
            for one in found
        ]  # fmt: skip


def _split(repo_id: str) -> tuple[str, str]:
    namespace, slash, name = repo_id.partition("/")
    if not slash:
        raise UsageError(f"{repo_id!r} is not namespace/name")
    return namespace, name


def _models_only(kind: str | None) -> None:
    if kind not in (None, "model"):
        raise UsageError(f"This hub keeps models (adapters and their bases), no {kind}s")
