"""Who am I, may I, and small questions that clients ask."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from hub import access
from hub.card_facts import front_matter_of
from hub.errors import BadUpload, SignInFirst
from hub.hf import wire
from hub.server import CallerDep, ServerDep
from storage import accounts, repo_listing
from storage.repo_listing import RepoFilter

router = APIRouter()


@router.get("/api/whoami-v2")
def whoami(server: ServerDep, caller: CallerDep) -> wire.Json:
    account = caller.account
    if account is None:
        raise SignInFirst("Nobody is signed in.", remedy="hf auth login")
    with server.home.read() as session:
        orgs = [
            {
                "type": "org",
                "id": str(org.id),
                "name": org.name,
                "fullname": org.name,
                "role": caller.roles[org.id],
            }
            for org in accounts.every(session)
            if org.id in caller.roles and org.id != account.id
        ]
    role = "write" if caller.role == "admin" else caller.role
    return {
        "type": "user", "id": str(account.id), "name": account.name, "fullname": account.name, "email": None,
        "isPro": False, "isAdmin": caller.everything, "orgs": orgs,
        "auth": {
            "type": "access_token",
            "accessToken": {
                "displayName": caller.token_name, "role": role, "createdAt": wire.date(account.created_at),
            },
        },
    }  # fmt: skip


@router.get("/api/models/{ns:quoted}/{name:quoted}/auth-check")
def auth_check(ns: str, name: str, server: ServerDep, caller: CallerDep) -> wire.Json:
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        access.require_files(session, caller, repo)
    return {"ok": True}


@router.get("/api/models/{ns:quoted}/{name:quoted}/auth-check/write")
def auth_check_write(ns: str, name: str, server: ServerDep, caller: CallerDep) -> wire.Json:
    with server.home.read() as session:
        access.require(caller, access.visible_repo(session, caller, ns, name), "write")
    return {"ok": True}


@router.get("/api/users/{name:quoted}/overview")
@router.get("/api/organizations/{name:quoted}/overview")
def overview(name: str, server: ServerDep, caller: CallerDep) -> wire.Json:
    """Counts what the caller may see."""
    with server.home.read() as session:
        account = accounts.find(session, name)
        found = repo_listing.find_repos(session, RepoFilter(author=name, readers=caller.readers), limit=10_000)
    return {
        "user": account.name, "name": account.name, "fullname": account.name, "avatarUrl": "", "type": account.kind,
        "isPro": False, "numModels": len(found), "numDatasets": 0, "numSpaces": 0,
        "createdAt": wire.date(account.created_at),
    }  # fmt: skip


@router.post("/api/validate-yaml")
async def validate_yaml(request: Request) -> Response:
    """Called before every upload of a README.md, also by nobody."""
    body: Any = None
    if int(request.headers.get("content-length") or 0) <= 8 * 2**20:
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            body = None
    content = body.get("content") if isinstance(body, dict) else None
    if not isinstance(content, str):
        return JSONResponse({"errors": [{"message": "content is not a text"}], "warnings": []}, status_code=400)
    try:
        await run_in_threadpool(front_matter_of, content, owner="README.md")
    except BadUpload as error:
        return JSONResponse({"errors": [{"message": error.message}], "warnings": []}, status_code=400)
    return JSONResponse({"errors": [], "warnings": []})


@router.get("/api/agent-harnesses")
async def agent_harnesses() -> wire.Json:
    """Asked once a day while a client builds its user-agent; it has three seconds."""
    return {"standardEnvVars": [], "harnesses": {}}
