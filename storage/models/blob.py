"""Bytes by their sha256, which accounts brought them, and what was found damaged. The bytes are in `storage.blobs`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, hex_check


class BlobRow(Record):
    __tablename__ = "blob"
    __table_args__ = (
        hex_check("sha256", 64),
        hex_check("git_sha1", 40),
        CheckConstraint("size >= 0", name="size_positive"),
    )

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    git_sha1: Mapped[str] = mapped_column(String(40), comment="sha1 of 'blob <size>\\0' and the content")
    created_at: Mapped[datetime] = mapped_column(comment="first or latest upload; a sweep spares young blobs")


class BlobUseRow(Record):
    __tablename__ = "blob_use"

    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    sha256: Mapped[str] = mapped_column(
        String(64),
        ForeignKey("blob.sha256", ondelete="CASCADE"),
        primary_key=True,
        comment="knowing a digest gives no right to its bytes: this account uploaded them",
    )


class BlobDamageRow(Record):
    __tablename__ = "blob_damage"
    __table_args__ = (CheckConstraint("reason <> ''", name="has_reason"),)

    sha256: Mapped[str] = mapped_column(String(64), ForeignKey("blob.sha256", ondelete="CASCADE"), primary_key=True)
    reason: Mapped[str] = mapped_column(String(200))
    found_at: Mapped[datetime]
    healed_at: Mapped[datetime | None] = mapped_column(
        comment="NULL: its bytes are asked for again; else some may have gone out wrong, so no download is resumed"
    )


class BlobScrubRow(Record):
    __tablename__ = "blob_scrub"
    __table_args__ = (CheckConstraint("id = 1", name="only_one"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[str] = mapped_column(String(64), comment="the sha256 that was begun last; empty: a round is over")
    round_began_at: Mapped[datetime]
