"""Which role it takes to move an alias. An alias that nobody protected may be moved by whoever may write."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage import names, repos
from storage.models import AliasProtectionRow
from storage.repos import Repo


def protect(session: Session, repo: Repo, alias: str, role: str) -> None:
    """`role` is "admin", or "write" to lift the protection."""
    names.check_alias(alias)
    repos.lock(session, repo)
    session.execute(
        delete(AliasProtectionRow).where(AliasProtectionRow.repo_id == repo.id, AliasProtectionRow.name == alias)
    )
    if role != "write":
        session.add(AliasProtectionRow(repo_id=repo.id, name=alias, role=role))
    session.flush()


def role_for(session: Session, repo: Repo, alias: str) -> str:
    """The least role that may move it."""
    role = session.scalar(
        select(AliasProtectionRow.role).where(AliasProtectionRow.repo_id == repo.id, AliasProtectionRow.name == alias)
    )
    return role or "write"
