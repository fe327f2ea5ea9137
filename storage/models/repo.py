"""A named place for revisions. Live names are unique per account; a deleted repo keeps its row and is hidden."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, choice_check, hex_check

LIVE = text("deleted_at IS NULL")


class RepoRow(Record):
    __tablename__ = "repo"
    __table_args__ = (
        UniqueConstraint("uuid"),
        Index("uq_repo_live_name", "account_id", "name_key", unique=True, sqlite_where=LIVE, postgresql_where=LIVE),
        hex_check("uuid", 32),
        choice_check("kind", "model"),
        choice_check("visibility", "public", "private"),
        choice_check("gated", "auto", "manual"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    uuid: Mapped[str] = mapped_column(String(32), comment="part of every commit id, so two repos never share one")
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="RESTRICT"))
    name: Mapped[str] = mapped_column(String(96))
    name_key: Mapped[str] = mapped_column(String(96), comment="name in lower case: unique without regard to case")
    kind: Mapped[str] = mapped_column(String(16))
    visibility: Mapped[str] = mapped_column(String(8))
    gated: Mapped[str | None] = mapped_column(String(8), comment="how access is granted; NULL: not gated")
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None] = mapped_column(comment="hidden since; NULL: live")
    downloads: Mapped[int] = mapped_column(default=0)
    likes: Mapped[int] = mapped_column(default=0, comment="rows of repo_like")
