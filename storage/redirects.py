"""Former names of repos, so that clients that still use one are led to the present name."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage import names, repos
from storage.models import AccountRow, RepoRedirectRow, RepoRow
from storage.repos import Repo


def leave(session: Session, repo: Repo) -> None:
    """Before a rename: the name that `repo` has now will lead to it."""
    where = (RepoRedirectRow.account_id == repo.account_id, RepoRedirectRow.name_key == names.key(repo.name))
    session.execute(delete(RepoRedirectRow).where(*where))
    session.add(RepoRedirectRow(account_id=repo.account_id, name_key=names.key(repo.name), repo_id=repo.id))
    session.flush()


def follow(session: Session, account: str, name: str) -> Repo | None:
    """The live repo that was once called so, if its former name is not in use again."""
    repo_id = session.scalar(
        select(RepoRedirectRow.repo_id)
        .join(AccountRow, AccountRow.id == RepoRedirectRow.account_id)
        .join(RepoRow, RepoRow.id == RepoRedirectRow.repo_id)
        .where(
            AccountRow.name_key == names.key(account),
            RepoRedirectRow.name_key == names.key(name),
            RepoRow.deleted_at.is_(None),
        )
    )
    return None if repo_id is None else repos.by_id(session, repo_id)
