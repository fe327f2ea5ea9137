"""Names of revisions that the Hugging Face protocol knows: branches move, tags never do."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, choice_check, hex_check


class RefRow(Record):
    __tablename__ = "ref"
    __table_args__ = (
        UniqueConstraint("repo_id", "name"),
        ForeignKeyConstraint(["repo_id", "revision_id"], ["revision.repo_id", "revision.id"], ondelete="RESTRICT"),
        Index(None, "revision_id"),
        choice_check("kind", "branch", "tag"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    repo_id: Mapped[int] = mapped_column(ForeignKey("repo.id", ondelete="RESTRICT"))
    kind: Mapped[str] = mapped_column(String(8))
    name: Mapped[str] = mapped_column(String(200), comment="a tag v<number> is a version")
    revision_id: Mapped[int]
    message: Mapped[str | None] = mapped_column(comment="of a tag")
    updated_at: Mapped[datetime]


class VersionTombstoneRow(Record):
    """A version that is gone. Keyed by the repo's name, not its id: the name may be used again, the version may not."""

    __tablename__ = "version_tombstone"
    __table_args__ = (
        Index(None, "account_id", "repo_name_key", "number"),
        hex_check("tree_digest", 64),
        choice_check("cause", "version deleted", "repo deleted", "repo renamed"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="RESTRICT"))
    repo_name: Mapped[str] = mapped_column(String(96))
    repo_name_key: Mapped[str] = mapped_column(String(96), comment="repo_name in lower case")
    number: Mapped[int] = mapped_column(comment="3 for v3")
    tree_digest: Mapped[str] = mapped_column(String(64), comment="the only content that may have this version again")
    cause: Mapped[str] = mapped_column(String(16))
    deleted_by: Mapped[str] = mapped_column(String(96))
    deleted_at: Mapped[datetime]
