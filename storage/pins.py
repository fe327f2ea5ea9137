"""What keeps a revision from going: aliases that name it and mixes that were made from it."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.models import AccountRow, AliasRow, CompositionParentRow, CompositionRow, RepoRow, RevisionRow


def of(session: Session, revision_id: int) -> tuple[str, ...]:
    """In words, for people: `alias ns/a@prod`, `mix ns/b@1234567`. Empty: nothing pins it."""
    aliases = session.execute(
        select(AccountRow.name, RepoRow.name, AliasRow.name)
        .join(RepoRow, RepoRow.id == AliasRow.repo_id)
        .join(AccountRow, AccountRow.id == RepoRow.account_id)
        .where(AliasRow.revision_id == revision_id)
        .order_by(AliasRow.name)
    ).all()
    mixes = session.execute(
        select(AccountRow.name, RepoRow.name, CompositionRow.folder, RevisionRow.commit_id)
        .join(CompositionParentRow, CompositionParentRow.composition_id == CompositionRow.id)
        .join(RevisionRow, RevisionRow.id == CompositionRow.revision_id)
        .join(RepoRow, RepoRow.id == RevisionRow.repo_id)
        .join(AccountRow, AccountRow.id == RepoRow.account_id)
        .where(CompositionParentRow.revision_id == revision_id)
        .distinct()
        .order_by(AccountRow.name, RepoRow.name, RevisionRow.commit_id)
    ).all()
    in_words = [f"alias {account}/{repo}@{alias}" for account, repo, alias in aliases]
    for account, repo, folder, commit_id in mixes:
        in_words.append(f"mix {account}/{repo}{'/' + folder if folder else ''}@{commit_id[:7]}")
    return tuple(in_words)
