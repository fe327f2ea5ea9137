"""A file of a revision, with every digest that the Hugging Face protocol shows."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, choice_check, hex_check


class FileRow(Record):
    __tablename__ = "revision_file"
    __table_args__ = (
        hex_check("sha256", 64),
        hex_check("git_sha1", 40),
        hex_check("pointer_sha1", 40),
        choice_check("upload_mode", "regular", "lfs"),
        CheckConstraint("size >= 0", name="size_positive"),
    )

    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(String(1024), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64), ForeignKey("blob.sha256", ondelete="RESTRICT"), index=True)
    git_sha1: Mapped[str] = mapped_column(String(40), comment="git blob id of the content: the oid of a regular file")
    pointer_sha1: Mapped[str] = mapped_column(
        String(40), comment="git blob id of the LFS pointer text: the oid of an lfs file"
    )
    upload_mode: Mapped[str] = mapped_column(String(8))
