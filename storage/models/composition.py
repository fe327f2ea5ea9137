"""How a mixed adapter was made. Its parents are pinned: the database refuses to let their revisions go."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, hex_check


class CompositionRow(Record):
    __tablename__ = "composition"
    __table_args__ = (UniqueConstraint("revision_id", "folder"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id", ondelete="CASCADE"), comment="the result")
    folder: Mapped[str] = mapped_column(String(1024))
    method: Mapped[str] = mapped_column(String(64))
    params: Mapped[dict[str, Any]]
    recipe: Mapped[dict[str, Any]] = mapped_column(comment="content of the recipe file that remakes the result")


class CompositionParentRow(Record):
    __tablename__ = "composition_parent"
    __table_args__ = (
        ForeignKeyConstraint(["repo_id", "revision_id"], ["revision.repo_id", "revision.id"], ondelete="RESTRICT"),
        Index(None, "revision_id", "folder"),
        hex_check("weights_sha256", 64),
        hex_check("config_sha256", 64),
    )

    composition_id: Mapped[int] = mapped_column(ForeignKey("composition.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, comment="0, 1 ... in the order that was written")
    repo_id: Mapped[int] = mapped_column(ForeignKey("repo.id", ondelete="RESTRICT"))
    revision_id: Mapped[int]
    folder: Mapped[str] = mapped_column(String(1024))
    full_name: Mapped[str] = mapped_column(String(256), comment="as written then; the repo may have moved since")
    weight: Mapped[float]
    weights_sha256: Mapped[str] = mapped_column(String(64))
    config_sha256: Mapped[str] = mapped_column(String(64))
