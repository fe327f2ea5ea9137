"""Pull requests, which the protocol files under discussions. Discussions without a change are not kept."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from hub import access
from hub.actions import commit as commit_action
from hub.actions.merge_pull_request import merge
from hub.errors import NotAllowed, UsageError
from hub.hf import wire
from hub.server import BaseUrl, CallerDep, ServerDep
from storage import pull_requests, revisions
from storage.pull_requests import PullRequest
from storage.repos import Repo

router = APIRouter()


class NewDiscussion(BaseModel):
    model_config = ConfigDict(extra="ignore")

    title: str = Field(max_length=1000)
    description: str = Field(default="", max_length=100_000)
    pullRequest: bool = False  # noqa: N815


class NewStatus(BaseModel):
    model_config = ConfigDict(extra="ignore")

    status: Literal["open", "closed"]


@router.post("/api/models/{ns:quoted}/{name:quoted}/discussions")
def open_discussion(
    ns: str, name: str, body: NewDiscussion, server: ServerDep, caller: CallerDep, base_url: BaseUrl
) -> wire.Json:
    if not body.pullRequest:
        raise UsageError("This hub keeps pull requests, no other discussions")
    with server.home.write() as session:
        repo = access.visible_repo(session, caller, ns, name)
        commit_action.require_push(caller, repo, revisions.MAIN, as_pull_request=True)
        head = commit_action.branch_head(session, repo, revisions.MAIN)
        made = pull_requests.open_one(
            session, repo, head, title=body.title, description=body.description, author=caller.name
        )
    return {"num": made.number, "pullRequest": True, "url": f"{base_url}/{repo.full_name}/discussions/{made.number}"}


@router.get("/api/models/{ns:quoted}/{name:quoted}/discussions")
def list_discussions(ns: str, name: str, server: ServerDep, caller: CallerDep) -> wire.Json:
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        found = pull_requests.every(session, repo)
    return {"discussions": [_summary(repo, one) for one in found], "count": len(found), "start": 0}


@router.get("/api/models/{ns:quoted}/{name:quoted}/discussions/{number:quoted}")
def discussion(ns: str, name: str, number: str, server: ServerDep, caller: CallerDep) -> wire.Json:
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        found = pull_requests.find(session, repo, _number(number))
    return _details(repo, found)


@router.post("/api/models/{ns:quoted}/{name:quoted}/discussions/{number:quoted}/status")
def set_status(ns: str, name: str, number: str, body: NewStatus, server: ServerDep, caller: CallerDep) -> wire.Json:
    """Its author and whoever may write may close it and open it again."""
    with server.home.write() as session:
        repo = access.visible_repo(session, caller, ns, name)
        found = pull_requests.find(session, repo, _number(number))
        if found.author != caller.name or caller.anonymous:
            access.require(caller, repo, "write")
        if found.status == "merged":
            raise NotAllowed(f"Pull request {number} is merged.")
        changed = pull_requests.set_status(session, repo, found.number, body.status)
    return {"newStatus": {**_event(changed, "status-change"), "data": {"status": body.status}}}


@router.post("/api/models/{ns:quoted}/{name:quoted}/discussions/{number:quoted}/merge")
def merge_discussion(ns: str, name: str, number: str, server: ServerDep, caller: CallerDep) -> wire.Json:
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
    return _details(repo, merge(server.home, caller, repo, _number(number)))


def _number(text: str) -> int:
    if not text.isdigit() or len(text) > 9:
        raise UsageError(f"{text[:40]!r} is not the number of a pull request")
    return int(text)


def _summary(repo: Repo, one: PullRequest) -> wire.Json:
    return {
        "num": one.number, "title": one.title, "author": {"name": one.author}, "createdAt": wire.date(one.created_at),
        "status": one.status, "repo": {"name": repo.full_name, "type": "model"}, "isPullRequest": True,
    }  # fmt: skip


def _details(repo: Repo, one: PullRequest) -> wire.Json:
    comment = {**_event(one, "comment"), "data": {"edited": False, "hidden": False, "latest": {"raw": one.description}}}
    return {
        **_summary(repo, one), "events": [comment] if one.description else [], "filesWithConflicts": [],
        "changes": {"base": "refs/heads/main"}, "diff": "",
    }  # fmt: skip


def _event(one: PullRequest, kind: str) -> dict[str, Any]:
    return {
        "id": f"{one.number}", "type": kind, "createdAt": wire.date(one.created_at), "author": {"name": one.author},
    }  # fmt: skip
