"""Mixing adapters that the caller reads into a repo that the caller writes. Answers when the mix is published."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from hub import access
from hub.access import Caller
from hub.actions import repos as repo_actions
from hub.actions.compose import Part, compose
from hub.address import Address, parse_address
from hub.api.method_schema import describe_options, list_methods
from hub.errors import RepoNotFound
from hub.home import Home
from hub.locate import locate_adapter
from hub.server import CallerDep, ServerDep
from storage import adapters, repos

router = APIRouter(prefix="/api/v1/compositions", tags=["compositions"])


class PartOf(BaseModel):
    address: str = Field(max_length=512, examples=["team/upper@v1"])
    weight: float = Field(allow_inf_nan=False, examples=[0.6])


class Plan(BaseModel):
    """What to mix, and where the result goes."""

    into: str = Field(max_length=512, examples=["team/mix"])
    parts: list[PartOf] = Field(min_length=1, max_length=1000)
    method: str = Field(default="lorahub", max_length=64, json_schema_extra=list_methods)
    params: dict[str, bool | int | float | str | None] = Field(
        default_factory=dict, examples=[{"fold": "balanced"}], json_schema_extra=describe_options
    )
    allow_unbound: bool = False
    visibility: Literal["public", "private"] = Field(default="private", description="of a repo that is made for it")


class Mixed(BaseModel):
    address: str
    commit: str
    version: str
    created: bool = Field(description="false: the repo has this very content already")
    method: str
    retained_energy: float | None
    licences: list[str] = Field(description="of the parts")
    notes: list[str]


@router.post("", status_code=201)
def create(plan: Plan, server: ServerDep, caller: CallerDep) -> Mixed:
    """Each part is pinned to the revision that its address names now."""
    parts = [Part(parse_address(part.address), part.weight) for part in plan.parts]
    into = parse_address(plan.into)
    _check_parts(server.home, caller, parts)
    is_new = _check_target(server.home, caller, into)
    home = replace(server.home, account=caller.name)
    done = compose(home, parts, into, method=plan.method, params=plan.params, allow_unbound=plan.allow_unbound)
    if is_new and plan.visibility == "public":
        _open(server.home, into)
    return Mixed(
        address=str(done.published.address), commit=done.published.commit_id, version=done.published.version,
        created=done.published.created, method=done.method, retained_energy=done.retained_energy,
        licences=_licences(server.home, parts), notes=list(done.notes),
    )  # fmt: skip


def _check_parts(home: Home, caller: Caller, parts: list[Part]) -> None:
    with home.read() as session:
        for part in parts:
            repo = access.visible_repo(session, caller, part.address.namespace, part.address.repo, follow=False)
            access.require_files(session, caller, repo)


def _check_target(home: Home, caller: Caller, into: Address) -> bool:
    """Whether the repo is new: then it is made with the mix, not before. Raises NotAllowed or SignInFirst."""
    with home.read() as session:
        try:
            repo = access.visible_repo(session, caller, into.namespace, into.repo, follow=False)
        except RepoNotFound:
            repo_actions.require_namespace(session, caller, into.namespace)
            return True
        access.require(caller, repo, "write")
        return False


def _open(home: Home, into: Address) -> None:
    """Show a repo that was made for the mix to everybody."""
    with home.write() as session:
        repo = repos.find(session, into.namespace, into.repo)
        repos.set_access(session, repo, visibility="public", gated=repo.gated)


def _licences(home: Home, parts: list[Part]) -> list[str]:
    with home.read() as session:
        pinned = [locate_adapter(session, part.address) for part in parts]
        facts = [adapters.facts_of(session, one.revision, one.folder) for one in pinned]
    return sorted({one.licence for one in facts if one is not None and one.licence})
