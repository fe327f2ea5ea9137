"""Repos without a namespace (`gpt2`), and kinds of repo that this hub does not keep: asked for, never here.

Comes after all other routes.
"""

from __future__ import annotations

from fastapi import APIRouter

from hub.errors import RepoNotFound
from hub.server import CallerDep

router = APIRouter()


@router.get("/api/models/{name:quoted}")
def unnamespaced(name: str, caller: CallerDep) -> None:
    raise RepoNotFound(name, anonymous=caller.anonymous)


@router.get("/api/models/{name:quoted}/revision/{rev:quoted}")
def unnamespaced_revision(name: str, rev: str, caller: CallerDep) -> None:
    raise RepoNotFound(f"{name}@{rev}", anonymous=caller.anonymous)


@router.get("/api/models/{name:quoted}/tree/{rest:rest}")
def unnamespaced_tree(name: str, rest: str, caller: CallerDep) -> None:
    raise RepoNotFound(f"{name} ({rest})", anonymous=caller.anonymous)
