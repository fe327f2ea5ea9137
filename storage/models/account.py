"""Who owns repos: people and organisations, and the account `local` of a home without a server."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, choice_check


class AccountRow(Record):
    __tablename__ = "account"
    __table_args__ = (UniqueConstraint("name_key"), choice_check("kind", "user", "org"))

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(96))
    name_key: Mapped[str] = mapped_column(String(96), comment="name in lower case: unique without regard to case")
    kind: Mapped[str] = mapped_column(String(8))
    owner_id: Mapped[int | None] = mapped_column(
        ForeignKey("account.id", ondelete="RESTRICT"), comment="of an org: the account that may write to it"
    )
    is_admin: Mapped[bool] = mapped_column(
        server_default=false(), default=False, comment="may do everything, with a token of the role admin"
    )
    created_at: Mapped[datetime]
