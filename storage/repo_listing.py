"""Listing repos by what is at the head of their main branch, for callers who may see only some of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session, aliased

from storage import names, repos, revisions
from storage.models import AccountRow, RefRow, RepoRow, RevisionRow, RevisionTagRow
from storage.repos import Repo
from storage.revisions import MAIN, Revision

SORTS = {
    "lastModified": RevisionRow.created_at,
    "createdAt": RepoRow.created_at,
    "downloads": RepoRow.downloads,
    "likes": RepoRow.likes,
    "trendingScore": RepoRow.downloads,
}


@dataclass(frozen=True)
class RepoFilter:
    """Every condition that is given must hold."""

    author: str | None = None
    text: str | None = None
    """Every word of it occurs in `ns/name`."""
    tags: tuple[str, ...] = ()
    gated: bool | None = None
    readers: Collection[int] | None = ()
    """Account ids whose private repos show beside the public ones; None: all."""


@dataclass(frozen=True)
class ListedRepo:
    """A repo, the head of its main branch, and what is shown of that. `card` None: nobody looked at it yet."""

    repo: Repo
    revision: Revision
    card: dict[str, Any] | None


def find_repos(
    session: Session, filters: RepoFilter, *, sort: str | None = None, limit: int, offset: int = 0
) -> list[ListedRepo]:
    """Newest or most first for a sort (a key of `SORTS`), else by name. One query, however many there are."""
    order = [SORTS[sort].desc()] if sort in SORTS else []
    parent = aliased(RevisionRow)
    query = (
        select(RepoRow, AccountRow.name, RevisionRow, parent.commit_id)
        .join(AccountRow, AccountRow.id == RepoRow.account_id)
        .join(RefRow, RefRow.repo_id == RepoRow.id)
        .join(RevisionRow, RevisionRow.id == RefRow.revision_id)
        .outerjoin(parent, parent.id == RevisionRow.parent_id)
        .where(RefRow.kind == "branch", RefRow.name == MAIN, RepoRow.deleted_at.is_(None), *_conditions(filters))
        .order_by(*order, AccountRow.name_key, RepoRow.name_key)
        .limit(limit)
        .offset(offset)
        .execution_options(populate_existing=True)  # an update() in this session must show
    )
    return [
        ListedRepo(repos.from_row(repo, account), revisions.from_row(head, commit_id), head.card)
        for repo, account, head, commit_id in session.execute(query)
    ]


def _conditions(filters: RepoFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filters.readers is not None:
        conditions.append(or_(RepoRow.visibility == "public", RepoRow.account_id.in_(filters.readers)))
    if filters.author is not None:
        conditions.append(AccountRow.name_key == names.key(filters.author))
    if filters.gated is not None:
        conditions.append(RepoRow.gated.is_not(None) if filters.gated else RepoRow.gated.is_(None))
    full_name = AccountRow.name + "/" + RepoRow.name
    conditions.extend(full_name.icontains(word, autoescape=True) for word in (filters.text or "").split())
    conditions.extend(
        exists().where(RevisionTagRow.revision_id == RevisionRow.id, RevisionTagRow.tag == tag) for tag in filters.tags
    )
    return conditions
