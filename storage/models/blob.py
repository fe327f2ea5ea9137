"""Bytes by their sha256, and which accounts brought them. The bytes themselves are in `storage.blobs`."""

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
