from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from storage import accounts, aliases, repos, revisions
from storage.errors import Conflict, NotFound
from storage.repos import Repo
from storage.revisions import Revision

MakeRepo = Callable[..., Repo]
Commit = Callable[..., Revision]


class TestAliases:
    def test_promoting_and_rolling_back_walks_through_the_history(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        repo = make_repo(session)
        a, b, c, d = (commit(session, repo, bytes([number])) for number in range(4))
        for revision in (a, b, c):
            aliases.promote(session, repo, revision, "prod", actor="ann")
        assert aliases.rollback(session, repo, "prod", actor="bob").commit_id == b.commit_id
        assert aliases.rollback(session, repo, "prod", actor="bob").commit_id == a.commit_id
        with pytest.raises(Conflict, match="no earlier"):
            aliases.rollback(session, repo, "prod", actor="bob")
        aliases.promote(session, repo, d, "prod", actor="ann")
        assert aliases.rollback(session, repo, "prod", actor="bob").commit_id == a.commit_id
        events = aliases.history(session, repo, "prod")
        assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6, 7]
        assert [event.commit_id for event in events] == [r.commit_id for r in (a, b, c, b, a, d, a)]
        assert [event.action for event in events] == ["promote"] * 3 + ["rollback"] * 2 + ["promote", "rollback"]
        assert aliases.every(session, repo) == {"prod": a.commit_id}

    def test_promoting_what_is_there_is_no_event(self, session: Session, make_repo: MakeRepo, commit: Commit) -> None:
        repo = make_repo(session)
        revision = commit(session, repo)
        first = aliases.promote(session, repo, revision, "prod", actor="ann")
        assert aliases.promote(session, repo, revision, "prod", actor="bob") == first

    def test_an_alias_stays_in_its_repo(self, session: Session, make_repo: MakeRepo, commit: Commit) -> None:
        repo, other = make_repo(session, "one"), make_repo(session, "other")
        foreign = commit(session, other)
        with pytest.raises(Conflict, match="local/one"):
            aliases.promote(session, repo, foreign, "prod", actor="ann")
        for look in (aliases.history, lambda *a: aliases.rollback(*a, actor="ann")):
            with pytest.raises(NotFound, match="prod"):
                look(session, repo, "prod")


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.integers(0, 3) | st.none(), max_size=12))
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_rolling_back_is_undo_on_a_stack(moves: list[int | None], engine: Engine, commit: Commit) -> None:
    """Number: promote that revision; None: roll back. Compared with a plain list as the stack."""
    with Session(engine) as session:  # rolled back at the end: every example begins afresh
        accounts.ensure(session)
        repo = repos.create(session, "local", "adapter")
        made = [commit(session, repo, bytes([number])) for number in range(4)]
        stack: list[int] = []
        for move in moves:
            if move is None and len(stack) < 2:
                with pytest.raises((Conflict, NotFound)):
                    aliases.rollback(session, repo, "prod", actor="ann")
            elif move is None:
                stack.pop()
                aliases.rollback(session, repo, "prod", actor="ann")
            elif stack[-1:] != [move]:
                stack.append(move)
                aliases.promote(session, repo, made[move], "prod", actor="ann")
            if stack:
                assert revisions.resolve(session, repo, "prod") == made[stack[-1]]
