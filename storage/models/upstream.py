"""What was seen of another hub: revisions of its public repos, and which of their files are kept here.

A cache. None of it belongs to an account, and nothing refers to it; commits are made in `repo` only.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, hex_check


class UpstreamRevisionRow(Record):
    __tablename__ = "upstream_revision"
    __table_args__ = (UniqueConstraint("repo_key", "commit_id"), hex_check("commit_id", 40))

    id: Mapped[int] = mapped_column(primary_key=True)
    repo_key: Mapped[str] = mapped_column(String(193), comment="ns/name in lower case")
    commit_id: Mapped[str] = mapped_column(String(40))
    info: Mapped[dict[str, Any]] = mapped_column(comment="name, tags, card and dates, as the upstream shows them")
    files: Mapped[list[Any]] = mapped_column(comment="path, size and digest of every file, kept here or not")


class UpstreamRefRow(Record):
    __tablename__ = "upstream_ref"
    __table_args__ = (Index(None, "revision_id"),)

    repo_key: Mapped[str] = mapped_column(String(193), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("upstream_revision.id", ondelete="CASCADE"))
    seen_at: Mapped[datetime] = mapped_column(comment="when the upstream last said so")


class UpstreamFileRow(Record):
    __tablename__ = "upstream_file"
    __table_args__ = (Index(None, "sha256"),)

    repo_key: Mapped[str] = mapped_column(String(193), primary_key=True)
    digest: Mapped[str] = mapped_column(
        String(64),
        primary_key=True,
        comment="as listed upstream: the sha256, or the git sha1 of a small file",
    )
    sha256: Mapped[str] = mapped_column(String(64), ForeignKey("blob.sha256", ondelete="RESTRICT"))
