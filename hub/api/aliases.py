"""Aliases such as `prod`: moved by promoting and rolling back, with a history, and protected where that is wanted."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from hub import access
from hub.actions import aliases as alias_actions
from hub.actions.aliases import Move
from hub.address import Address
from hub.server import CallerDep, ServerDep
from storage import aliases

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
    label: str = Field(description="the version of the commit, or the start of its id", examples=["v7"])
    commit: str
    actor: str
    at: datetime


@router.get("")
def list_aliases(ns: str, name: str, server: ServerDep, caller: CallerDep) -> dict[str, str]:
    """alias -> commit id"""
    with server.home.read() as session:
        return aliases.every(session, access.visible_repo(session, caller, ns, name))


@router.get("/history")
def whole_history(ns: str, name: str, server: ServerDep, caller: CallerDep) -> list[Event]:
    """Of all aliases of the repo, each oldest first."""
    return [_event(one) for one in alias_actions.history(server.home, Address(ns, name), caller=caller)]


@router.get("/{alias:quoted}/history")
def history(ns: str, name: str, alias: str, server: ServerDep, caller: CallerDep) -> list[Event]:
    """Oldest first."""
    return [_event(one) for one in alias_actions.history(server.home, Address(ns, name), alias, caller=caller)]


@router.post("/{alias:quoted}/promote")
def promote(ns: str, name: str, alias: str, body: Promotion, server: ServerDep, caller: CallerDep) -> Event:
    """Let the alias name a revision; it is made if it is new."""
    return _event(
        alias_actions.promote(server.home, Address(ns, name, "", body.revision), alias, caller=caller)
    )  # fmt: skip


@router.post("/{alias:quoted}/rollback")
def rollback(ns: str, name: str, alias: str, server: ServerDep, caller: CallerDep) -> Event:
    """Undo the latest promotion that is still in effect."""
    return _event(alias_actions.rollback(server.home, Address(ns, name), alias, caller=caller))


@router.put("/{alias:quoted}/protection")
def protect(ns: str, name: str, alias: str, body: Protection, server: ServerDep, caller: CallerDep) -> dict[str, str]:
    """The least role that may move the alias from now on."""
    alias_actions.protect(server.home, Address(ns, name), alias, body.role, caller=caller)
    return {"alias": alias, "role": body.role}


def _event(move: Move) -> Event:
    return Event(
        alias=move.alias, seq=move.seq, action=move.action, label=move.label, commit=move.commit_id, actor=move.actor,
        at=move.created_at,
    )  # fmt: skip
