"""A search for weights, and every trial of it: enough to resume by replaying losses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, choice_check, hex_check


class SearchRow(Record):
    __tablename__ = "search"
    __table_args__ = (
        UniqueConstraint("uuid"),
        hex_check("uuid", 32),
        hex_check("examples_digest", 64),
        choice_check("status", "running", "stopped", "finished", "failed"),
        CheckConstraint("(status = 'running') = (finished_at IS NULL)", name="finished_has_time"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    uuid: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None] = mapped_column(comment="finished, stopped or failed at; NULL: running")
    status: Mapped[str] = mapped_column(String(8))
    adapters: Mapped[list[Any]] = mapped_column(comment="objects: full_name, repo_uuid, commit_id, folder")
    config: Mapped[dict[str, Any]]
    examples_digest: Mapped[str] = mapped_column(String(64))
    result: Mapped[dict[str, Any] | None]


class TrialRow(Record):
    __tablename__ = "trial"
    __table_args__ = (CheckConstraint("number >= 0", name="number_positive"),)

    search_id: Mapped[int] = mapped_column(ForeignKey("search.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, comment="order in which it was asked for")
    kind: Mapped[str] = mapped_column(String(16), comment="base, uniform, single, ask, preset ...")
    weights: Mapped[list[Any]]
    loss: Mapped[float | None] = mapped_column(comment="bit for bit as computed; NULL: not a number")
    objective: Mapped[float | None] = mapped_column(comment="loss plus penalties: what was minimised; NULL: nan")
    seconds: Mapped[float]
    example_losses: Mapped[list[Any] | None] = mapped_column(
        comment="one per example, bit for bit, null: not a number; NULL: stored before they were kept"
    )
    # the last two are of searches over methods, which mixhub made before 0.1.0; nothing reads or writes them
    method: Mapped[str | None] = mapped_column(String(32), comment="how it was mixed; NULL: by the search's own method")
    params: Mapped[dict[str, Any] | None] = mapped_column(comment="the method's options; NULL where method is")
