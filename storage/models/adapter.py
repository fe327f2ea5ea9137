"""What is known about the adapter in one folder of one revision: facts for listing, mixing and using it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.schema import Record, choice_check, hex_check


class AdapterRow(Record):
    __tablename__ = "adapter"
    __table_args__ = (
        UniqueConstraint("revision_id", "folder"),
        Index(None, "base_id"),
        choice_check("binding", "bound", "unbound"),
        CheckConstraint("(binding = 'bound') = (base_id IS NOT NULL)", name="binding_has_base"),
        CheckConstraint("usable OR refusal IS NOT NULL", name="refusal_given"),
        hex_check("weights_sha256", 64),
        hex_check("config_sha256", 64),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id", ondelete="CASCADE"))
    folder: Mapped[str] = mapped_column(String(1024), comment="empty: the root of the repo")
    usable: Mapped[bool] = mapped_column(comment="can be mixed; else refusal says why not")
    refusal: Mapped[str | None]

    base_id: Mapped[int | None] = mapped_column(ForeignKey("base.id", ondelete="RESTRICT"))
    binding: Mapped[str] = mapped_column(String(8))
    base_model_name: Mapped[str | None] = mapped_column(comment="as written in adapter_config.json; never an identity")
    base_model_revision: Mapped[str | None] = mapped_column(comment="as written in adapter_config.json")

    peft_type: Mapped[str | None]
    task_type: Mapped[str | None]
    rank_min: Mapped[int | None]
    rank_max: Mapped[int | None]
    ranks: Mapped[dict[str, Any]] = mapped_column(comment="module path -> rank")
    alpha: Mapped[float | None]
    scaling_kind: Mapped[str | None] = mapped_column(comment="lora (alpha/r), rslora (alpha/sqrt r) ...")
    target_modules: Mapped[list[Any]]
    modules: Mapped[list[Any]] = mapped_column(comment="objects: path, rank, in_features, out_features, dtype")
    parameter_count: Mapped[int | None] = mapped_column(BigInteger)
    dtype: Mapped[str | None]
    modules_matched: Mapped[int | None] = mapped_column(comment="of the adapter's modules in the base; NULL: unknown")
    modules_missing: Mapped[int | None]
    missing_modules: Mapped[list[Any]]
    zero_delta: Mapped[bool | None] = mapped_column(comment="every B is zero: loads and changes nothing")
    weights_sha256: Mapped[str | None] = mapped_column(String(64))
    config_sha256: Mapped[str | None] = mapped_column(String(64))
    licence: Mapped[str | None]

    prompt_template: Mapped[str | None] = mapped_column(comment="how an input must be wrapped; from the card or given")
    chat_template: Mapped[str | None]
    label_texts: Mapped[dict[str, Any] | None] = mapped_column(comment="label -> text, for label matching")
    stop_strings: Mapped[list[Any]]
    suggested_weight: Mapped[float | None]


class AdapterTagRow(Record):
    __tablename__ = "adapter_tag"
    __table_args__ = (choice_check("kind", "task", "metric", "dataset", "tag"), Index(None, "kind", "name"))

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapter.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    value: Mapped[str | None] = mapped_column(comment="of a metric")
