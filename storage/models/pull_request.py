"""A change that is proposed on the branch `refs/pr/<number>`, and former names of repos."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, choice_check


class PullRequestRow(Record):
    __tablename__ = "pull_request"
    __table_args__ = (
        choice_check("status", "open", "closed", "merged"),
        CheckConstraint("number >= 1", name="number_positive"),
    )

    repo_id: Mapped[int] = mapped_column(ForeignKey("repo.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, comment="1, 2, 3 ... per repo")
    title: Mapped[str]
    description: Mapped[str]
    author: Mapped[str] = mapped_column(String(96))
    status: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[datetime]


class RepoRedirectRow(Record):
    __tablename__ = "repo_redirect"

    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    name_key: Mapped[str] = mapped_column(String(96), primary_key=True, comment="a former name, in lower case")
    repo_id: Mapped[int] = mapped_column(ForeignKey("repo.id", ondelete="CASCADE"), index=True)


class AliasProtectionRow(Record):
    __tablename__ = "alias_protection"
    __table_args__ = (choice_check("role", "write", "admin"),)

    repo_id: Mapped[int] = mapped_column(ForeignKey("repo.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True, comment="of an alias, which need not exist yet")
    role: Mapped[str] = mapped_column(String(8), comment="the least role that may move the alias")
