"""A commit: an immutable list of files with its author and message."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, choice_check, hex_check


class RevisionRow(Record):
    __tablename__ = "revision"
    __table_args__ = (
        UniqueConstraint("repo_id", "commit_id"),
        UniqueConstraint("repo_id", "id"),  # target of the foreign keys that keep refs and parents inside one repo
        ForeignKeyConstraint(["repo_id", "parent_id"], ["revision.repo_id", "revision.id"], ondelete="RESTRICT"),
        hex_check("commit_id", 40),
        hex_check("tree_digest", 64),
        choice_check("state", "ok", "incomplete", "broken"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    repo_id: Mapped[int] = mapped_column(ForeignKey("repo.id", ondelete="RESTRICT"))
    commit_id: Mapped[str] = mapped_column(
        String(40), comment="digest over repo uuid, tree, parent, author, time and message"
    )
    tree_digest: Mapped[str] = mapped_column(String(64), comment="sha256 over the sorted files: equal means no change")
    parent_id: Mapped[int | None] = mapped_column(comment="NULL: the first commit of its branch")
    author: Mapped[str]
    title: Mapped[str]
    message: Mapped[str]
    created_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16), comment="incomplete, broken: kept, but not usable as an adapter")
    reason: Mapped[str | None] = mapped_column(comment="why the state is not ok")
    card: Mapped[dict[str, Any] | None] = mapped_column(comment="front matter of README.md; NULL: nobody looked")


class RevisionTagRow(Record):
    __tablename__ = "revision_tag"
    __table_args__ = (Index(None, "tag"),)

    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(
        String(512), primary_key=True, comment="as listings show and filter: peft, lora, base_model:adapter:org/base"
    )
