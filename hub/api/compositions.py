"""Mixing adapters that the caller reads into a repo that the caller writes. Answers when the mix is published."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hub.actions.compose import MixOptions, Part
from hub.actions.compose_for import MixRequest, check_target, compose_for
from hub.actions.show import Relative, show_composition
from hub.address import parse_address
from hub.api.method_schema import describe_options, list_methods
from hub.api.words import FolderWord, RevisionWord, address_of
from hub.server import CallerDep, ServerDep
from hub.trials_file import TRIALS_FILE

router = APIRouter(prefix="/api/v1/compositions", tags=["compositions"])

MAX_JSON = 1_000_000
Number = Annotated[float, Field(allow_inf_nan=False)]


def _not_huge(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is not None and len(json.dumps(value)) > MAX_JSON:
        raise ValueError(f"has more than {MAX_JSON} bytes")
    return value


Document = Annotated[dict[str, Any] | None, AfterValidator(_not_huge)]


class PartOf(BaseModel):
    address: str = Field(max_length=512, examples=["team/upper@v1"])
    weight: Number | Annotated[dict[str, Number], Field(max_length=1000)] = Field(
        description="a number, or numbers by globs over modules, the last of them `*`", examples=[0.6]
    )


class Plan(BaseModel):
    """What to mix, and where the result goes: `parts` with weights, or a `recipe` to remake bit for bit."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "into": "team/mix",
                    "parts": [{"address": "team/upper@v1", "weight": 0.6}, {"address": "team/rotl", "weight": -0.3}],
                }
            ]
        }
    )

    into: str = Field(max_length=512, examples=["team/mix"])
    parts: list[PartOf] = Field(default_factory=list, max_length=1000)
    recipe: Document = Field(default=None, description="the content of mixhub_recipe.json; then no parts")
    method: str = Field(default="lorahub", max_length=64, json_schema_extra=list_methods)
    params: dict[str, bool | int | float | str | None] = Field(
        default_factory=dict, examples=[{"fold": "balanced"}], json_schema_extra=describe_options
    )
    dtype: str = Field(default="", max_length=32)
    max_rank: int | None = Field(default=None, ge=1, le=1_000_000)
    policies: dict[str, str] = Field(default_factory=dict, examples=[{"modules_to_save": "drop"}])
    base: str = Field(default="", max_length=512, description="address of a base model here, where one is needed")
    allow_unbound: bool = False
    pinned: bool = Field(
        default=False,
        description="the addresses hold commit ids that were read earlier; repos deleted since serve their readers",
    )
    version: str = Field(default="", max_length=32, examples=["v3"])
    search: Document = Field(default=None, description="how the weights were found; it goes into the recipe")
    trials: str = Field(default="", max_length=16 << 20, description="of the search, for mixhub_trials.jsonl")
    visibility: Literal["public", "private"] = Field(default="private", description="of a repo that is made for it")


class Mixed(BaseModel):
    address: str = Field(examples=["team/mix@v1"])
    commit: str
    version: str
    created: bool = Field(description="false: the repo has this very content already")
    versioned: bool = Field(description="a version was given")
    adapters: list[str] = Field(description="the folders that hold adapters")
    method: str
    parts: list[PartOf]
    retained_energy: float | None
    gauge_affinity: float | None
    licences: dict[str, str | None] = Field(description="of the parts, by address")
    notes: list[str]


class Target(BaseModel):
    into: str = Field(max_length=512, examples=["team/mix"])


class TargetFound(BaseModel):
    is_new: bool = Field(description="the repo would be made with the mix")


class Made(BaseModel):
    """How a mix was made."""

    address: str = Field(examples=["team/mix@v1"])
    commit: str
    method: str
    parents: list[Relative]
    recipe: dict[str, Any] = Field(description="the content of mixhub_recipe.json, which remakes it")


@router.post("", status_code=201)
def create(plan: Plan, server: ServerDep, caller: CallerDep) -> Mixed:
    """Each part is pinned to the revision that its address names now."""
    request = MixRequest(
        into=parse_address(plan.into),
        parts=[Part(parse_address(part.address), part.weight) for part in plan.parts],
        recipe=plan.recipe,
        options=MixOptions(plan.method, plan.params, plan.dtype, plan.max_rank, plan.policies, plan.base),
        allow_unbound=plan.allow_unbound,
        version=plan.version,
        search=plan.search,
        public=plan.visibility == "public",
        pinned_before=plan.pinned,
        beside={TRIALS_FILE: plan.trials} if plan.trials else {},
    )
    return Mixed.model_validate(compose_for(server.home, caller, request).as_dict())


@router.post("/target")
def target(target: Target, server: ServerDep, caller: CallerDep) -> TargetFound:
    """Whether a mix could go there, to be asked before a search is begun: refused as the mix would be."""
    return TargetFound(is_new=check_target(server.home, caller, parse_address(target.into)))


@router.get("/{ns:quoted}/{name:quoted}")
def get(
    ns: str, name: str, server: ServerDep, caller: CallerDep, revision: RevisionWord = "", folder: FolderWord = ""
) -> Made:
    """The parents and the recipe of a mix."""
    address = address_of(server, caller, ns, name, folder, revision, files=True)
    return Made.model_validate(show_composition(server.home, address, caller=caller))
