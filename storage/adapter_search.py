"""Finding adapters: those at the head of `main` of every live repo, each folder of a repo by itself."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, String, func, literal, or_, select
from sqlalchemy.orm import Session

from storage import bases, names
from storage.adapters import AdapterFacts, facts_from_rows
from storage.models import AccountRow, AdapterRow, AdapterTagRow, RefRow, RepoRow, RevisionRow
from storage.revisions import MAIN


@dataclass(frozen=True)
class AdapterFilter:
    """Every condition that is given must hold. Texts are compared without regard to case."""

    account: str | None = None
    text: str | None = None
    """Every word of it occurs in the address, the base model's name as written, the task type or a tag."""
    base: str | None = None
    """A name or digest of a base: adapters bound to that identity."""
    task: str | None = None
    """A task tag, or the task type."""
    tag: str | None = None
    """A tag of any kind."""
    rank: int | None = None
    """The highest rank of its modules."""
    peft_type: str | None = None
    licence: str | None = None
    usable: bool | None = None
    readable_by: tuple[str, ...] | None = None
    """Accounts whose private repos show beside the public ones; None: no privacy (a local home)."""


@dataclass(frozen=True)
class FoundAdapter:
    """An adapter at the head of main. `address` is `ns/repo` or `ns/repo/folder`."""

    account: str
    repo: str
    repo_id: int
    visibility: str
    revision_id: int
    commit_id: str
    facts: AdapterFacts

    @property
    def address(self) -> str:
        return "/".join(part for part in (self.account, self.repo, self.facts.folder) if part)


def find_adapters(
    session: Session, filters: AdapterFilter | None = None, *, limit: int | None = None, offset: int = 0
) -> list[FoundAdapter]:
    """By address. An unknown base finds nothing."""
    conditions = _conditions(session, filters or AdapterFilter())
    if conditions is None:
        return []
    query = _heads().where(*conditions).order_by(AccountRow.name_key, RepoRow.name_key, AdapterRow.folder)
    found = session.execute(query.limit(limit).offset(offset)).all()
    facts = facts_from_rows(session, [row[0] for row in found])
    return [
        FoundAdapter(account, repo.name, repo.id, repo.visibility, revision.id, revision.commit_id, fact)
        for (_, repo, account, revision), fact in zip(found, facts, strict=True)
    ]


def _heads() -> Select[AdapterRow, RepoRow, str, RevisionRow]:
    return (
        select(AdapterRow, RepoRow, AccountRow.name, RevisionRow)
        .join(RevisionRow, RevisionRow.id == AdapterRow.revision_id)
        .join(RefRow, RefRow.revision_id == RevisionRow.id)
        .join(RepoRow, RepoRow.id == RefRow.repo_id)
        .join(AccountRow, AccountRow.id == RepoRow.account_id)
        .where(RefRow.kind == "branch", RefRow.name == MAIN, RepoRow.deleted_at.is_(None))
        .execution_options(populate_existing=True)
    )


def _conditions(session: Session, filters: AdapterFilter) -> list[ColumnElement[bool]] | None:
    """None: nothing can be found."""
    conditions: list[ColumnElement[bool]] = []
    if filters.base is not None:
        base = bases.find_base(session, filters.base)
        if base is None:
            return None
        conditions.append(AdapterRow.base_id == base.id)
    if filters.account is not None:
        conditions.append(AccountRow.name_key == names.key(filters.account))
    if filters.task is not None:
        conditions.append(or_(_tagged(filters.task, kind="task"), _same(AdapterRow.task_type, filters.task)))
    if filters.tag is not None:
        conditions.append(_tagged(filters.tag))
    if filters.rank is not None:
        conditions.append(AdapterRow.rank_max == filters.rank)
    if filters.peft_type is not None:
        conditions.append(_same(AdapterRow.peft_type, filters.peft_type))
    if filters.licence is not None:
        conditions.append(_same(AdapterRow.licence, filters.licence))
    if filters.usable is not None:
        conditions.append(AdapterRow.usable.is_(filters.usable))
    if filters.readable_by is not None:
        readers = [names.key(reader) for reader in filters.readable_by]
        conditions.append(or_(RepoRow.visibility == "public", AccountRow.name_key.in_(readers)))
    conditions.extend(_mentions(word) for word in (filters.text or "").split())
    return conditions


def _same(column: ColumnElement[str | None] | object, text: str) -> ColumnElement[bool]:
    return func.lower(column, type_=String()) == func.lower(literal(text), type_=String())


def _tagged(name: str, *, kind: str | None = None) -> ColumnElement[bool]:
    query = select(AdapterTagRow).where(AdapterTagRow.adapter_id == AdapterRow.id, _same(AdapterTagRow.name, name))
    return (query if kind is None else query.where(AdapterTagRow.kind == kind)).exists()


def _mentions(word: str) -> ColumnElement[bool]:
    address = AccountRow.name + "/" + RepoRow.name + "/" + AdapterRow.folder
    tags = select(AdapterTagRow).where(
        AdapterTagRow.adapter_id == AdapterRow.id, AdapterTagRow.name.icontains(word, autoescape=True)
    )
    return or_(
        address.icontains(word, autoescape=True),
        AdapterRow.base_model_name.icontains(word, autoescape=True),
        AdapterRow.task_type.icontains(word, autoescape=True),
        tags.exists(),
    )
