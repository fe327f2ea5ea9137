"""Aliases such as `prod`: moved by promoting and rolling back, with a history, and protected where that is wanted."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from hub import access
from hub.access import Caller
from hub.hf.found import revision_of
from hub.server import CallerDep, ServerDep
from storage import alias_protection, aliases
from storage.aliases import AliasEvent
from storage.repos import Repo

router = APIRouter(prefix="/api/v1/repos/{ns:quoted}/{name:quoted}/aliases", tags=["aliases"])


class Promotion(BaseModel):
    revision: str = Field(default="main", max_length=256, examples=["v7"])


class Protection(BaseModel):
    role: Literal["write", "admin"] = Field(examples=["admin"])


class Event(BaseModel):
    """One move of an alias: it names `commit` from `at` on."""

    alias: str = Field(examples=["prod"])
    seq: int
    action: str = Field(examples=["promote"])
    commit: str
    actor: str
    at: datetime


@router.get("")
def list_aliases(ns: str, name: str, server: ServerDep, caller: CallerDep) -> dict[str, str]:
    """alias -> commit id"""
    with server.home.read() as session:
        return aliases.every(session, access.visible_repo(session, caller, ns, name))


@router.get("/{alias:quoted}/history")
def history(ns: str, name: str, alias: str, server: ServerDep, caller: CallerDep) -> list[Event]:
    """Oldest first."""
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        return [_event(one) for one in aliases.history(session, repo, alias)]


@router.post("/{alias:quoted}/promote")
def promote(ns: str, name: str, alias: str, body: Promotion, server: ServerDep, caller: CallerDep) -> Event:
    """Let the alias name a revision; it is made if it is new."""
    with server.home.write() as session:
        repo = _movable(session, caller, ns, name, alias)
        revision = revision_of(session, repo, body.revision)
        return _event(aliases.promote(session, repo, revision, alias, actor=caller.name))


@router.post("/{alias:quoted}/rollback")
def rollback(ns: str, name: str, alias: str, server: ServerDep, caller: CallerDep) -> Event:
    """Undo the latest promotion that is still in effect."""
    with server.home.write() as session:
        repo = _movable(session, caller, ns, name, alias)
        return _event(aliases.rollback(session, repo, alias, actor=caller.name))


@router.put("/{alias:quoted}/protection")
def protect(ns: str, name: str, alias: str, body: Protection, server: ServerDep, caller: CallerDep) -> dict[str, str]:
    """The least role that may move the alias from now on."""
    with server.home.write() as session:
        repo = access.visible_repo(session, caller, ns, name)
        access.require(caller, repo, "admin")
        alias_protection.protect(session, repo, alias, body.role)
    return {"alias": alias, "role": body.role}


def _movable(session: Session, caller: Caller, ns: str, name: str, alias: str) -> Repo:
    repo = access.visible_repo(session, caller, ns, name)
    access.require(caller, repo, alias_protection.role_for(session, repo, alias))
    return repo


def _event(one: AliasEvent) -> Event:
    return Event(
        alias=one.alias, seq=one.seq, action=one.action, commit=one.commit_id, actor=one.actor, at=one.created_at
    )
