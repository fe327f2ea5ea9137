"""A base model as an identity (a digest), and the many names under which people know it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, choice_check, hex_check


class BaseRow(Record):
    __tablename__ = "base"
    __table_args__ = (
        UniqueConstraint("identity"),
        UniqueConstraint("digest", "tensors_digest"),  # rows whose values nobody has read may share a digest
        hex_check("identity", 64),
        hex_check("digest", 64),
        hex_check("tensors_digest", 64),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    identity: Mapped[str] = mapped_column(
        String(64), comment="sha256 over digest and tensors_digest, or the first name where the values were not read"
    )
    digest: Mapped[str] = mapped_column(
        String(64), comment="sha256 over the architecture fields and the sorted tensor names and shapes"
    )
    architecture: Mapped[dict[str, Any]]
    shapes: Mapped[dict[str, Any]] = mapped_column(comment="tensor name -> list of sizes")
    parameter_count: Mapped[int] = mapped_column(BigInteger)
    tensors_digest: Mapped[str | None] = mapped_column(String(64), comment="over the values too, where they were read")
    created_at: Mapped[datetime]


class BaseNameRow(Record):
    __tablename__ = "base_name"
    __table_args__ = (choice_check("kind", "hub", "path", "repo", "quantised"),)

    name: Mapped[str] = mapped_column(String(1024), primary_key=True)
    base_id: Mapped[int] = mapped_column(ForeignKey("base.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16), comment="paths and repos may come to mean another base")
    created_at: Mapped[datetime]
