"""Who may do what: members of organisations, tokens, requests for gated repos, and the server's own signing key."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, choice_check, hex_check


class MembershipRow(Record):
    __tablename__ = "membership"
    __table_args__ = (choice_check("role", "read", "write", "admin"), Index(None, "account_id"))

    org_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(String(8), comment="read, write, or admin: also settings, members and deleting")


class TokenRow(Record):
    __tablename__ = "token"
    __table_args__ = (
        UniqueConstraint("sha256"),
        Index(None, "account_id"),
        hex_check("sha256", 64),
        choice_check("role", "read", "write", "admin"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(96))
    sha256: Mapped[str] = mapped_column(String(64), comment="of the whole token; the token itself is shown once")
    role: Mapped[str] = mapped_column(String(8), comment="never more than the account itself may do")
    namespace_id: Mapped[int | None] = mapped_column(
        ForeignKey("account.id", ondelete="CASCADE"), comment="it acts in this namespace only; NULL: in all"
    )
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class AccessRequestRow(Record):
    __tablename__ = "access_request"
    __table_args__ = (choice_check("status", "pending", "accepted", "rejected"),)

    repo_id: Mapped[int] = mapped_column(ForeignKey("repo.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    status: Mapped[str] = mapped_column(String(8), comment="accepted: may read the files of this gated repo")
    created_at: Mapped[datetime]


class RepoLikeRow(Record):
    __tablename__ = "repo_like"

    repo_id: Mapped[int] = mapped_column(ForeignKey("repo.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True, index=True)
    created_at: Mapped[datetime]


class ServerKeyRow(Record):
    __tablename__ = "server_key"
    __table_args__ = (hex_check("secret", 64),)

    purpose: Mapped[str] = mapped_column(String(32), primary_key=True)
    secret: Mapped[str] = mapped_column(String(64), comment="signs short-lived upload URLs and Xet tokens")
