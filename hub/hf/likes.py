"""Likes: of the caller, of a repo, of an account. Stock clients list them and take them back."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from hub import access
from hub.errors import NotAllowed, SignInFirst
from hub.hf import wire
from hub.hf.found import page_of
from hub.server import BaseUrl, CallerDep, ServerDep
from storage import accounts, likes

router = APIRouter()


@router.post("/api/models/{ns:quoted}/{name:quoted}/like")
@router.delete("/api/models/{ns:quoted}/{name:quoted}/like")
def like(ns: str, name: str, request: Request, server: ServerDep, caller: CallerDep) -> wire.Json:
    with server.home.write() as session:
        repo = access.visible_repo(session, caller, ns, name)
        if caller.account is None:
            raise SignInFirst("Sign in to like a repo.", remedy="hf auth login")
        if caller.role == "read":
            raise NotAllowed("This token may only read; liking takes one with the role write.")
        change = likes.put if request.method == "POST" else likes.remove
        change(session, repo, caller.account)
        return {"likes": len(likes.likers(session, repo))}


@router.get("/api/models/{ns:quoted}/{name:quoted}/likers")
def likers(
    ns: str, name: str, request: Request, response: Response, server: ServerDep, caller: CallerDep, base_url: BaseUrl
) -> Sequence[wire.Json]:
    with server.home.read() as session:
        found = likes.likers(session, access.visible_repo(session, caller, ns, name))
    listed = [{"user": who, "fullname": who, "avatarUrl": "", "type": "user"} for who in found]
    return page_of(listed, request, response, base_url=base_url, size=server.settings.page_size)


@router.get("/api/users/{user:quoted}/likes")
def liked_by(
    user: str, request: Request, response: Response, server: ServerDep, caller: CallerDep, base_url: BaseUrl
) -> Sequence[wire.Json]:
    with server.home.read() as session:
        found = likes.liked_by(session, accounts.find(session, user), readers=caller.readers)
    listed = [{"createdAt": wire.date(at), "repo": {"name": name, "type": "model"}} for name, at in found]
    return page_of(listed, request, response, base_url=base_url, size=server.settings.page_size)
