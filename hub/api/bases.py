"""Base models that adapters are bound to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from hub.seen_bases import details
from hub.server import CallerDep, ServerDep
from storage.errors import NotFound

router = APIRouter(prefix="/api/v1/bases", tags=["bases"])


class NameOfBase(BaseModel):
    name: str = Field(examples=["team/base"])
    kind: str = Field(description="repo: an address on this server; hub, quantised: a name used elsewhere")


class KnownBase(BaseModel):
    identity: str
    digest: str = Field(description="over architecture, tensor names and shapes")
    tensors_digest: str | None = Field(description="over the values too; null: nobody read them")
    architecture: Mapping[str, Any]
    shapes: Mapping[str, Sequence[int]] = Field(description="tensor name -> sizes")
    parameter_count: int
    names: list[NameOfBase]


@router.get("/{identity:quoted}")
def get(identity: str, server: ServerDep, caller: CallerDep) -> KnownBase:
    """By the identity that the facts of an adapter name."""
    with server.home.read() as session:
        found = details(session, caller, identity)
    if found is None:
        raise NotFound(f"There is no base model {identity[:64]!r}, or you may not see it.")
    base, names = found
    facts = base.facts
    return KnownBase(
        identity=base.identity, digest=facts.digest, tensors_digest=facts.tensors_digest,
        architecture=facts.architecture, shapes=facts.shapes, parameter_count=facts.parameter_count,
        names=[NameOfBase(name=name.name, kind=name.kind) for name in names],
    )  # fmt: skip
