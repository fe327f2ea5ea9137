"""A movable name such as `prod`, and the append-only list of its moves (triggers refuse UPDATE and DELETE)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, choice_check


class AliasRow(Record):
    __tablename__ = "alias"
    __table_args__ = (
        UniqueConstraint("repo_id", "name"),
        UniqueConstraint("repo_id", "id"),  # target of the foreign key that keeps a history inside one repo
        ForeignKeyConstraint(["repo_id", "revision_id"], ["revision.repo_id", "revision.id"], ondelete="RESTRICT"),
        Index(None, "revision_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    repo_id: Mapped[int] = mapped_column(ForeignKey("repo.id", ondelete="RESTRICT"))
    name: Mapped[str] = mapped_column(String(64))
    revision_id: Mapped[int] = mapped_column(comment="where it points now: the revision of its last event")


class AliasEventRow(Record):
    __tablename__ = "alias_event"
    __table_args__ = (
        ForeignKeyConstraint(["repo_id", "alias_id"], ["alias.repo_id", "alias.id"], ondelete="RESTRICT"),
        ForeignKeyConstraint(["repo_id", "revision_id"], ["revision.repo_id", "revision.id"], ondelete="RESTRICT"),
        CheckConstraint("seq >= 1 AND (previous_seq IS NULL OR previous_seq < seq)", name="seq_order"),
        choice_check("action", "promote", "rollback"),
    )

    alias_id: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, comment="1, 2, 3 ... without gaps: one linear history")
    repo_id: Mapped[int]
    action: Mapped[str] = mapped_column(String(8))
    revision_id: Mapped[int]
    previous_seq: Mapped[int | None] = mapped_column(comment="the event that a rollback from here goes back to")
    actor: Mapped[str] = mapped_column(String(96))
    created_at: Mapped[datetime]
