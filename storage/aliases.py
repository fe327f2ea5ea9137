"""Movable names such as `prod`. Every move is an event of one linear history that nobody can change afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import names, refs, repos
from storage.clock import utc_now
from storage.errors import AlreadyExists, Conflict, NotFound
from storage.models import AliasEventRow, AliasRow, RevisionRow
from storage.repos import Repo
from storage.revisions import Revision


@dataclass(frozen=True)
class AliasEvent:
    """Move number `seq` (1, 2 ...) of an alias: it names `commit_id` from `created_at` on."""

    alias: str
    seq: int
    action: str
    """"promote" or "rollback"."""
    revision_id: int
    commit_id: str
    previous_seq: int | None
    """The event whose revision a rollback from here returns to; None: there is none."""
    actor: str
    created_at: datetime


def promote(
    session: Session, repo: Repo, revision: Revision, alias: str, *, actor: str, now: datetime | None = None
) -> AliasEvent:
    """Let the alias name the revision; it is made if it is new. Already there: its last event, nothing new.

    Raises InvalidName, AlreadyExists (a branch or tag has the name) or Conflict (the revision is of another repo).
    """
    names.check_alias(alias)
    repos.lock(session, repo)
    if revision.repo_id != repo.id:
        raise Conflict(f"The commit {revision.commit_id} is not one of {repo.full_name}.")
    if (ref := refs.find(session, repo, alias)) is not None:
        raise AlreadyExists(f"{repo.full_name} has a {ref.kind} {alias!r}; an alias needs a name of its own.")
    row = _row(session, repo, alias)
    if row is None:
        row = AliasRow(repo_id=repo.id, name=alias, revision_id=revision.id)
        session.add(row)
        session.flush()
        return _append(session, row, "promote", revision.id, previous=None, last=None, actor=actor, now=now)
    last = _last(session, row)
    if last.revision_id == revision.id:
        return _event(session, row, last)
    return _append(session, row, "promote", revision.id, previous=last.seq, last=last, actor=actor, now=now)


def rollback(session: Session, repo: Repo, alias: str, *, actor: str, now: datetime | None = None) -> AliasEvent:
    """Undo the latest promotion that is still in effect; a second rollback goes back one further.

    Raises NotFound, or Conflict when there is nothing before.
    """
    repos.lock(session, repo)
    row = _existing(session, repo, alias)
    last = _last(session, row)
    if last.previous_seq is None:
        raise Conflict(
            f"{repo.full_name}@{alias} has no earlier revision to go back to.",
            remedy=f"`mixhub history {repo.full_name}@{alias}` shows its moves.",
        )
    target = session.get_one(AliasEventRow, (row.id, last.previous_seq))
    return _append(
        session, row, "rollback", target.revision_id, previous=target.previous_seq, last=last, actor=actor, now=now
    )


def history(session: Session, repo: Repo, alias: str) -> list[AliasEvent]:
    """All moves, oldest first. Raises NotFound."""
    row = _existing(session, repo, alias)
    events = session.scalars(select(AliasEventRow).where(AliasEventRow.alias_id == row.id).order_by(AliasEventRow.seq))
    return [_event(session, row, event) for event in events]


def every(session: Session, repo: Repo) -> dict[str, str]:
    """alias -> commit id, by name."""
    found = session.execute(
        select(AliasRow.name, RevisionRow.commit_id)
        .join(RevisionRow, RevisionRow.id == AliasRow.revision_id)
        .where(AliasRow.repo_id == repo.id)
        .order_by(AliasRow.name)
    )
    return {row[0]: row[1] for row in found}


def _append(
    session: Session, row: AliasRow, action: str, revision_id: int, *, previous: int | None,
    last: AliasEventRow | None, actor: str, now: datetime | None,
) -> AliasEvent:  # fmt: skip
    event = AliasEventRow(
        alias_id=row.id, seq=last.seq + 1 if last else 1, repo_id=row.repo_id, action=action, revision_id=revision_id,
        previous_seq=previous, actor=actor, created_at=now or utc_now(),
    )  # fmt: skip
    row.revision_id = revision_id
    session.add(event)
    session.flush()
    return _event(session, row, event)


def _row(session: Session, repo: Repo, alias: str) -> AliasRow | None:
    query = select(AliasRow).where(AliasRow.repo_id == repo.id, AliasRow.name == alias)
    return session.scalar(query.execution_options(populate_existing=True))


def _existing(session: Session, repo: Repo, alias: str) -> AliasRow:
    row = _row(session, repo, alias)
    if row is None:
        raise NotFound(f"{repo.full_name} has no alias {alias!r}.", remedy="`mixhub promote` makes one.")
    return row


def _last(session: Session, row: AliasRow) -> AliasEventRow:
    query = select(AliasEventRow).where(AliasEventRow.alias_id == row.id).order_by(AliasEventRow.seq.desc()).limit(1)
    return session.scalars(query).one()


def _event(session: Session, row: AliasRow, event: AliasEventRow) -> AliasEvent:
    commit_id = session.scalars(select(RevisionRow.commit_id).where(RevisionRow.id == event.revision_id)).one()
    return AliasEvent(
        row.name, event.seq, event.action, event.revision_id, commit_id, event.previous_seq, event.actor,
        event.created_at,
    )  # fmt: skip
