"""Facts about adapters, keyed by revision and folder: a repo may hold several, each mixable by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import delete, insert, literal, select
from sqlalchemy.orm import Session, aliased

from storage import names
from storage.errors import InvalidName
from storage.models import AdapterRow, AdapterTagRow, BaseRow
from storage.revisions import Revision

MAX_TAG = 256
BATCH = 500
"""Folders per statement: databases limit the number of parameters."""


@dataclass(frozen=True)
class Module:
    """One adapted module: A is (rank, in_features), B is (out_features, rank)."""

    path: str
    rank: int
    in_features: int
    out_features: int
    dtype: str


@dataclass(frozen=True)
class Tag:
    """`kind` is "task", "metric", "dataset" or "tag"; `value` belongs to a metric."""

    kind: str
    name: str
    value: str | None = None


@dataclass(frozen=True)
class Usage:
    """How the adapter wants to be used; None or empty where nobody said."""

    prompt_template: str | None = None
    chat_template: str | None = None
    label_texts: Mapping[str, str] | None = None
    stop_strings: tuple[str, ...] = ()
    suggested_weight: float | None = None


@dataclass(frozen=True)
class AdapterFacts:
    """All that is known without loading tensors, except `zero_delta`. None: unknown."""

    folder: str = ""
    """Empty: the root of the repo."""
    usable: bool = True
    refusal: str | None = None
    """Why it cannot be mixed; given where `usable` is False."""
    base_identity: str | None = None
    """The base that it is bound to; None: unbound."""
    base_model_name: str | None = None
    """As written in adapter_config.json: never an identity."""
    base_model_revision: str | None = None
    peft_type: str | None = None
    task_type: str | None = None
    alpha: float | None = None
    scaling_kind: str | None = None
    target_modules: tuple[str, ...] = ()
    modules: tuple[Module, ...] = ()
    parameter_count: int | None = None
    dtype: str | None = None
    modules_matched: int | None = None
    """How many of `modules` exist in the base with fitting shapes."""
    missing_modules: tuple[str, ...] = ()
    zero_delta: bool | None = None
    """Every B is zero: it loads and changes nothing."""
    weights_sha256: str | None = None
    config_sha256: str | None = None
    licence: str | None = None
    usage: Usage = field(default_factory=Usage)
    tags: tuple[Tag, ...] = ()

    @property
    def ranks(self) -> dict[str, int]:
        """module path -> rank"""
        return {module.path: module.rank for module in self.modules}

    @property
    def binding(self) -> str:
        return "unbound" if self.base_identity is None else "bound"

    @property
    def modules_missing(self) -> int | None:
        return None if self.modules_matched is None else len(self.missing_modules)


def record_facts(session: Session, revision: Revision, facts: AdapterFacts) -> None:
    """Note the facts of one folder; facts that are there already are replaced (a later look knows more).

    Raises InvalidName for a folder, text or tag, or when `base_identity` is not that of a recorded base.
    """
    names.check_folder(facts.folder)
    _check_texts(facts)
    where = (AdapterRow.revision_id == revision.id, AdapterRow.folder == facts.folder)
    session.execute(delete(AdapterRow).where(*where))  # its tags go with it
    row = AdapterRow(revision_id=revision.id, **_columns(session, facts))
    session.add(row)
    session.flush()
    if facts.tags:
        session.execute(insert(AdapterTagRow), [{"adapter_id": row.id, **asdict(tag)} for tag in facts.tags])


def copy_facts(session: Session, old: Revision, new: Revision, folders: Iterable[str]) -> None:
    """Let `new` have the facts that `old` has in these folders: a few statements, however many there are."""
    columns = [c for c in AdapterRow.__table__.columns if c.name not in ("id", "revision_id")]
    listed = sorted(folders)
    for batch in (listed[start : start + BATCH] for start in range(0, len(listed), BATCH)):
        kept = select(literal(new.id), *columns).where(
            AdapterRow.revision_id == old.id, AdapterRow.folder.in_(batch)
        )  # fmt: skip
        session.execute(insert(AdapterRow).from_select(["revision_id", *(c.name for c in columns)], kept))
        copied = aliased(AdapterRow)
        tags = (
            select(copied.id, AdapterTagRow.kind, AdapterTagRow.name, AdapterTagRow.value)
            .join(AdapterRow, AdapterRow.id == AdapterTagRow.adapter_id)
            .join(copied, copied.folder == AdapterRow.folder)
            .where(AdapterRow.revision_id == old.id, copied.revision_id == new.id, AdapterRow.folder.in_(batch))
        )
        session.execute(insert(AdapterTagRow).from_select(["adapter_id", "kind", "name", "value"], tags))


def facts_of(session: Session, revision: Revision, folder: str = "") -> AdapterFacts | None:
    """None: there is no adapter in this folder."""
    row = session.scalar(select(AdapterRow).where(AdapterRow.revision_id == revision.id, AdapterRow.folder == folder))
    return facts_from_rows(session, [row])[0] if row else None


def facts_of_all(session: Session, revision_ids: Collection[int]) -> dict[int, list[AdapterFacts]]:
    """Revision id -> its adapters by folder, the root's first; many revisions in three queries."""
    found: dict[int, list[AdapterFacts]] = {revision_id: [] for revision_id in revision_ids}
    rows = list(session.scalars(select(AdapterRow).where(AdapterRow.revision_id.in_(revision_ids))))
    rows.sort(key=lambda row: row.folder)
    for row, facts in zip(rows, facts_from_rows(session, rows), strict=True):
        found[row.revision_id].append(facts)
    return found


def folders_of(session: Session, revision: Revision) -> list[str]:
    """The folders of the revision that hold an adapter; "" is the root."""
    query = select(AdapterRow.folder).where(AdapterRow.revision_id == revision.id)
    return sorted(session.scalars(query))


def usable_folders_of(session: Session, revision: Revision) -> list[str]:
    """Those of them whose adapter can be mixed."""
    query = select(AdapterRow.folder).where(AdapterRow.revision_id == revision.id, AdapterRow.usable)
    return sorted(session.scalars(query))


def facts_from_rows(session: Session, rows: list[AdapterRow]) -> list[AdapterFacts]:
    """For this package only: many rows with their tags and bases in two more queries."""
    tags: dict[int, list[Tag]] = {}
    listed = select(AdapterTagRow).where(AdapterTagRow.adapter_id.in_([row.id for row in rows]))
    for tag in session.scalars(listed.order_by(AdapterTagRow.kind, AdapterTagRow.name)):
        tags.setdefault(tag.adapter_id, []).append(Tag(tag.kind, tag.name, tag.value))
    base_ids = {row.base_id for row in rows if row.base_id is not None}
    found = session.execute(select(BaseRow.id, BaseRow.identity).where(BaseRow.id.in_(base_ids)))
    identities = {base[0]: base[1] for base in found}
    return [_facts(row, identities, tuple(tags.get(row.id, ()))) for row in rows]


def _check_texts(facts: AdapterFacts) -> None:
    """Configs and cards are written by strangers."""
    for what, value in (*vars(facts).items(), *vars(facts.usage).items()):
        if isinstance(value, str):
            names.check_text(value, what=what.replace("_", " "))
    for tag in facts.tags:
        names.check_text(tag.name + (tag.value or ""), what=f"{tag.kind} tag")
        if not 0 < len(tag.name) <= MAX_TAG:
            raise InvalidName(f"A {tag.kind} tag must have 1 to {MAX_TAG} characters: {tag.name[:80]!r}.")


def _columns(session: Session, facts: AdapterFacts) -> dict[str, Any]:
    ranks = facts.ranks
    return {
        "folder": facts.folder, "usable": facts.usable, "refusal": facts.refusal,
        "base_id": _base_id(session, facts.base_identity), "binding": facts.binding,
        "base_model_name": facts.base_model_name, "base_model_revision": facts.base_model_revision,
        "peft_type": facts.peft_type, "task_type": facts.task_type, "rank_min": min(ranks.values(), default=None),
        "rank_max": max(ranks.values(), default=None), "ranks": ranks, "alpha": facts.alpha,
        "scaling_kind": facts.scaling_kind, "target_modules": list(facts.target_modules),
        "modules": [asdict(module) for module in facts.modules], "parameter_count": facts.parameter_count,
        "dtype": facts.dtype, "modules_matched": facts.modules_matched, "modules_missing": facts.modules_missing,
        "missing_modules": list(facts.missing_modules), "zero_delta": facts.zero_delta,
        "weights_sha256": facts.weights_sha256, "config_sha256": facts.config_sha256, "licence": facts.licence,
        "prompt_template": facts.usage.prompt_template, "chat_template": facts.usage.chat_template,
        "label_texts": None if facts.usage.label_texts is None else dict(facts.usage.label_texts),
        "stop_strings": list(facts.usage.stop_strings), "suggested_weight": facts.usage.suggested_weight,
    }  # fmt: skip


def _base_id(session: Session, identity: str | None) -> int | None:
    if identity is None:
        return None
    base_id = session.scalar(select(BaseRow.id).where(BaseRow.identity == identity))
    if base_id is None:
        raise InvalidName(f"No base with the identity {identity} is recorded; record it first (`bases.ensure_base`).")
    return base_id


def _facts(row: AdapterRow, identities: Mapping[int, str], tags: tuple[Tag, ...]) -> AdapterFacts:
    return AdapterFacts(
        folder=row.folder, usable=row.usable, refusal=row.refusal,
        base_identity=None if row.base_id is None else identities[row.base_id],
        base_model_name=row.base_model_name, base_model_revision=row.base_model_revision,
        peft_type=row.peft_type, task_type=row.task_type, alpha=row.alpha, scaling_kind=row.scaling_kind,
        target_modules=tuple(row.target_modules), modules=tuple(Module(**module) for module in row.modules),
        parameter_count=row.parameter_count, dtype=row.dtype, modules_matched=row.modules_matched,
        missing_modules=tuple(row.missing_modules), zero_delta=row.zero_delta, weights_sha256=row.weights_sha256,
        config_sha256=row.config_sha256, licence=row.licence,
        usage=Usage(
            row.prompt_template, row.chat_template, row.label_texts, tuple(row.stop_strings), row.suggested_weight
        ),
        tags=tags,
    )  # fmt: skip
