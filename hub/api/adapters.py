"""Adapters at the head of main of every repo that the caller sees, each folder by itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from hub.access import Caller
from hub.server import CallerDep, ServerDep
from storage import accounts
from storage.adapter_search import AdapterFilter, FoundAdapter, find_adapters

router = APIRouter(prefix="/api/v1/adapters", tags=["adapters"])

Word = Annotated[str | None, Query(max_length=200)]


class Adapter(BaseModel):
    """Facts of one adapter; null: unknown."""

    address: str = Field(examples=["team/sql"])
    commit: str
    visibility: str
    usable: bool
    refusal: str | None
    base_model: str | None = Field(description="as written in adapter_config.json")
    base_identity: str | None
    peft_type: str | None
    task_type: str | None
    ranks: list[int]
    alpha: float | None
    target_modules: list[str]
    parameter_count: int | None
    dtype: str | None
    zero_delta: bool | None
    licence: str | None
    tags: list[str]


@router.get("")
def find(
    server: ServerDep,
    caller: CallerDep,
    text: Word = None,
    namespace: Word = None,
    base: Word = None,
    task: Word = None,
    tag: Word = None,
    peft_type: Word = None,
    licence: Word = None,
    rank: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> list[Adapter]:
    """Every condition that is given must hold. `base` goes by identity: any of its names, or the identity itself."""
    with server.home.read() as session:
        filters = AdapterFilter(
            account=namespace, text=text, base=base, task=task, tag=tag, rank=rank, peft_type=peft_type,
            licence=licence, readable_by=_readers(session, caller),
        )  # fmt: skip
        return [_shown(found) for found in find_adapters(session, filters, limit=limit, offset=offset)]


def _readers(session: Session, caller: Caller) -> tuple[str, ...] | None:
    if caller.everything:
        return None
    return tuple(accounts.by_id(session, account_id).name for account_id in caller.roles)


def _shown(found: FoundAdapter) -> Adapter:
    facts = found.facts
    return Adapter(
        address=found.address, commit=found.commit_id, visibility=found.visibility, usable=facts.usable,
        refusal=facts.refusal, base_model=facts.base_model_name, base_identity=facts.base_identity,
        peft_type=facts.peft_type, task_type=facts.task_type, ranks=sorted(set(facts.ranks.values())),
        alpha=facts.alpha, target_modules=list(facts.target_modules), parameter_count=facts.parameter_count,
        dtype=facts.dtype, zero_delta=facts.zero_delta, licence=facts.licence,
        tags=sorted({tag.name for tag in facts.tags}),
    )  # fmt: skip
