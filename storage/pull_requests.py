"""Pull requests: a number, words, and the branch `refs/pr/<number>` that takes the proposed commits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage import names, refs, repos
from storage.clock import utc_now
from storage.errors import NotFound
from storage.models import PullRequestRow
from storage.repos import Repo
from storage.revisions import Revision

PREFIX = "refs/pr/"


@dataclass(frozen=True)
class PullRequest:
    number: int
    title: str
    description: str
    author: str
    status: str
    """"open", "closed" or "merged"."""
    created_at: datetime

    @property
    def ref(self) -> str:
        return f"{PREFIX}{self.number}"


def open_one(
    session: Session, repo: Repo, base: Revision, *, title: str, description: str, author: str,
    now: datetime | None = None,
) -> PullRequest:  # fmt: skip
    """The next number, with a branch that starts at `base`."""
    for text, what in ((title, "title"), (description, "description")):
        names.check_text(text, what=what)
    repos.lock(session, repo)
    last = session.scalar(select(func.max(PullRequestRow.number)).where(PullRequestRow.repo_id == repo.id))
    row = PullRequestRow(
        repo_id=repo.id, number=(last or 0) + 1, title=title, description=description, author=author, status="open",
        created_at=now or utc_now(),
    )  # fmt: skip
    session.add(row)
    session.flush()
    refs.create_branch(session, repo, f"{PREFIX}{row.number}", revision_id=base.id, now=now)
    return _pull_request(row)


def find(session: Session, repo: Repo, number: int) -> PullRequest:
    """Raises NotFound."""
    row = session.get(PullRequestRow, (repo.id, number))
    if row is None:
        raise NotFound(f"{repo.full_name} has no pull request {number}.")
    return _pull_request(row)


def every(session: Session, repo: Repo) -> list[PullRequest]:
    """By number."""
    query = select(PullRequestRow).where(PullRequestRow.repo_id == repo.id).order_by(PullRequestRow.number)
    return [_pull_request(row) for row in session.scalars(query)]


def set_status(session: Session, repo: Repo, number: int, status: str) -> PullRequest:
    """Raises NotFound."""
    find(session, repo, number)
    row = session.get_one(PullRequestRow, (repo.id, number))
    row.status = status
    session.flush()
    return _pull_request(row)


def _pull_request(row: PullRequestRow) -> PullRequest:
    return PullRequest(row.number, row.title, row.description, row.author, row.status, row.created_at)
