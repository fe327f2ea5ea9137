"""Base models by identity. Many names may mean one base, and what a path means may change: no name is an identity."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from storage.clock import utc_now
from storage.errors import Conflict, InvalidName
from storage.models import BaseNameRow, BaseRow
from storage.upsert import insert_missing

MAX_NAME = 1024
MOVING = ("path", "repo")
"""Kinds of names that may come to mean another base: other files were saved there, or published there."""


@dataclass(frozen=True)
class BaseFacts:
    """What identifies a base: computed elsewhere, from headers only. `digest` is 64 hex digits."""

    digest: str
    """Over the architecture fields and the tensor names and shapes: fine-tunes of one model share it."""
    architecture: Mapping[str, Any]
    shapes: Mapping[str, Sequence[int]]
    """tensor name -> sizes"""
    parameter_count: int
    tensors_digest: str | None = None
    """Over the values too; None where nobody read them."""


@dataclass(frozen=True)
class BaseName:
    name: str
    kind: str
    """"hub", "path", "repo" or "quantised"."""


@dataclass(frozen=True)
class Base:
    id: int
    identity: str
    """64 hex digits; two bases are the same if and only if this is."""
    facts: BaseFacts
    names: tuple[BaseName, ...] = field(default=())


def ensure_base(session: Session, facts: BaseFacts, *, name: str = "", now: datetime | None = None) -> Base:
    """The base with these facts, made if it is new. `name` is how it was found.

    Where the values were read, equal values decide. Where they were not, an equal digest is not enough (fine-tunes
    share it): then it is a known base only under one of its own names. Values read later are added to the row.
    """
    row = match(session, facts, name=name)
    if row is None:
        first = facts.tensors_digest or name
        identity = hashlib.sha256(f"{facts.digest} {first}".encode()).hexdigest()
        values = {
            "identity": identity, "digest": facts.digest, "architecture": dict(facts.architecture),
            "shapes": {tensor: list(sizes) for tensor, sizes in facts.shapes.items()},
            "parameter_count": facts.parameter_count, "tensors_digest": facts.tensors_digest,
            "created_at": now or utc_now(),
        }  # fmt: skip
        insert_missing(session, BaseRow, [values])
        return _base(session, session.scalars(select(BaseRow).where(BaseRow.identity == identity)).one())
    if row.facts.tensors_digest is None and facts.tensors_digest is not None:
        session.execute(update(BaseRow).where(BaseRow.id == row.id).values(tensors_digest=facts.tensors_digest))
        return replace(row, facts=replace(row.facts, tensors_digest=facts.tensors_digest))
    return row


def match(session: Session, facts: BaseFacts, *, name: str = "") -> Base | None:
    """The recorded base that these facts, found under `name`, belong to; see `ensure_base`."""
    rows = session.scalars(
        select(BaseRow)
        .where(BaseRow.digest == facts.digest)
        .order_by(BaseRow.id)
        .execution_options(populate_existing=True)
    )
    known = [_base(session, row) for row in rows]
    if facts.tensors_digest is not None:
        same = [base for base in known if base.facts.tensors_digest == facts.tensors_digest]
        if same:
            return same[0]
        known = [base for base in known if base.facts.tensors_digest is None]
    return next((base for base in known if name in (n.name for n in base.names)), None)


def add_name(session: Session, base: Base, name: str, *, kind: str, now: datetime | None = None) -> Base:
    """Let `name` mean this base. A path or repo that meant another base means this one from now on.

    Raises Conflict when a name of another kind means another base.
    """
    if not name or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME or "\0" in name:
        raise InvalidName(f"The name of a base must have 1 to {MAX_NAME} bytes and no NUL: {name[:80]!r}.")
    insert_missing(
        session, BaseNameRow, [{"name": name, "base_id": base.id, "kind": kind, "created_at": now or utc_now()}]
    )
    row = session.scalars(select(BaseNameRow).where(BaseNameRow.name == name).with_for_update()).one()
    if row.base_id != base.id:
        known = session.get_one(BaseRow, row.base_id)
        if not (row.kind == kind and kind in MOVING):
            raise Conflict(
                f"The name {name!r} means another base already: {known.identity[:12]}, not {base.identity[:12]}.",
                expected=known.identity,
                found=base.identity,
                remedy="Take another name; `mixhub base ls` lists those that are taken.",
            )
        session.execute(update(BaseNameRow).where(BaseNameRow.name == name).values(base_id=base.id))
    return _base(session, session.get_one(BaseRow, base.id))


def find_base(session: Session, name_or_identity: str) -> Base | None:
    """By one of its names, or by its identity (64 hex digits, or a prefix of 12 or more)."""
    row = session.scalar(
        select(BaseRow)
        .join(BaseNameRow, BaseNameRow.base_id == BaseRow.id)
        .where(BaseNameRow.name == name_or_identity)
        .execution_options(populate_existing=True)
    )
    if row is None and len(name_or_identity) >= 12:
        matches = session.scalars(
            select(BaseRow).where(BaseRow.identity.startswith(name_or_identity, autoescape=True)).limit(2)
        ).all()
        row = matches[0] if len(matches) == 1 else None
    return _base(session, row) if row else None


def every(session: Session) -> list[Base]:
    """All bases, oldest first."""
    known: dict[int, list[BaseName]] = {}
    for name in session.scalars(select(BaseNameRow).order_by(BaseNameRow.name)):
        known.setdefault(name.base_id, []).append(BaseName(name.name, name.kind))
    return [_from_row(row, known.get(row.id, [])) for row in session.scalars(select(BaseRow).order_by(BaseRow.id))]


def _base(session: Session, row: BaseRow) -> Base:
    listed = session.execute(
        select(BaseNameRow.name, BaseNameRow.kind).where(BaseNameRow.base_id == row.id).order_by(BaseNameRow.name)
    )
    return _from_row(row, [BaseName(found[0], found[1]) for found in listed])


def _from_row(row: BaseRow, known_as: Sequence[BaseName]) -> Base:
    facts = BaseFacts(
        digest=row.digest, architecture=row.architecture,
        shapes={name: tuple(sizes) for name, sizes in row.shapes.items()},
        parameter_count=row.parameter_count, tensors_digest=row.tensors_digest,
    )  # fmt: skip
    return Base(row.id, row.identity, facts, tuple(known_as))
