"""The rules that the database itself keeps, tried with raw SQL on both databases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from storage import aliases, compositions
from storage.compositions import Composition, Parent
from storage.repos import Repo
from storage.revisions import Revision

MakeRepo = Callable[..., Repo]
Commit = Callable[..., Revision]


def refused(session: Session, statement: str, **values: object) -> str:
    """Run it, expect the database to refuse, and give its words."""
    with pytest.raises(DBAPIError) as caught, session.begin_nested():
        session.execute(text(statement), values)
    return str(caught.value)


class TestConstraints:
    def test_a_revision_that_is_a_parent_of_a_mix_cannot_vanish(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        repo, mix = make_repo(session, "parent"), make_repo(session, "mix")
        parent, result = commit(session, repo, b"1"), commit(session, mix, b"2")
        pinned = Parent(repo.id, parent.id, parent.commit_id, "", "local/parent", 1.0, "0" * 64, "0" * 64)
        compositions.record(session, result, Composition("exact", {}, {}, (pinned,)))
        session.execute(text("DELETE FROM ref"))  # nothing else may be what holds it
        assert "FOREIGN KEY" in refused(session, "DELETE FROM revision WHERE id = :id", id=parent.id).upper()
        refused(session, "DELETE FROM repo WHERE id = :id", id=repo.id)
        session.execute(text("DELETE FROM revision WHERE id = :id"), {"id": result.id})  # its own mix goes with it
        session.execute(text("DELETE FROM revision WHERE id = :id"), {"id": parent.id})  # and now nothing pins it

    def test_a_revision_that_an_alias_names_cannot_vanish(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        repo = make_repo(session)
        revision = commit(session, repo)
        aliases.promote(session, repo, revision, "prod", actor="ann")
        session.execute(text("DELETE FROM ref"))
        assert "FOREIGN KEY" in refused(session, "DELETE FROM revision WHERE id = :id", id=revision.id).upper()

    def test_a_revision_that_a_branch_names_cannot_vanish_and_a_bare_one_can(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        revision = commit(session, make_repo(session))
        refused(session, "DELETE FROM revision WHERE id = :id", id=revision.id)
        session.execute(text("DELETE FROM ref"))
        session.execute(text("DELETE FROM revision WHERE id = :id"), {"id": revision.id})
        assert session.execute(text("SELECT count(*) FROM revision_file")).scalar_one() == 0

    def test_a_blob_in_use_cannot_vanish(self, session: Session, make_repo: MakeRepo, commit: Commit) -> None:
        commit(session, make_repo(session))
        refused(session, "DELETE FROM blob")

    def test_the_history_of_an_alias_cannot_be_changed(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        repo = make_repo(session)
        aliases.promote(session, repo, commit(session, repo), "prod", actor="ann")
        for statement in ("UPDATE alias_event SET actor = 'eve'", "DELETE FROM alias_event"):
            assert "append-only" in refused(session, statement)
        if session.get_bind().dialect.name == "postgresql":
            assert "append-only" in refused(session, "TRUNCATE alias_event")
        else:
            replaced = "INSERT OR REPLACE INTO alias_event SELECT alias_id, seq, repo_id, action, revision_id, "
            assert "append-only" in refused(session, replaced + "previous_seq, 'eve', created_at FROM alias_event")
        refused(session, "DELETE FROM alias")
        assert [event.actor for event in aliases.history(session, repo, "prod")] == ["ann"]

    def test_refs_and_aliases_cannot_point_into_another_repo(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        one, other = make_repo(session, "one"), make_repo(session, "other")
        mine, foreign = commit(session, one, b"1"), commit(session, other, b"2")
        aliases.promote(session, one, mine, "prod", actor="ann")
        for table in ("ref", "alias"):
            refused(session, f"UPDATE {table} SET revision_id = :to WHERE repo_id = :repo", to=foreign.id, repo=one.id)
        refused(session, "UPDATE revision SET parent_id = :to WHERE id = :id", to=foreign.id, id=mine.id)

    def test_a_position_in_a_history_exists_once(self, session: Session, make_repo: MakeRepo, commit: Commit) -> None:
        repo = make_repo(session)
        aliases.promote(session, repo, commit(session, repo), "prod", actor="ann")
        copy = "INSERT INTO alias_event SELECT * FROM alias_event"
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(text(copy))

    @pytest.mark.parametrize(
        "change",
        [
            "blob SET git_sha1 = 'xyz'", "revision SET commit_id = 'ABC'", "revision_file SET pointer_sha1 = ''",
            "revision SET tree_digest = upper(tree_digest)", "revision_file SET upload_mode = 'xet'",
            "revision_file SET size = -1", "revision SET state = 'fine'", "repo SET visibility = 'secret'",
            "repo SET gated = 'yes'", "account SET kind = 'robot'", "ref SET kind = 'note'", "repo SET uuid = 'a'",
        ],
    )  # fmt: skip
    def test_values_of_the_wrong_form_are_refused(
        self, session: Session, make_repo: MakeRepo, commit: Commit, change: str
    ) -> None:
        if "upper" in change:
            change = "revision SET tree_digest = '" + "A" * 64 + "'"
        commit(session, make_repo(session))
        assert "ck_" in refused(session, f"UPDATE {change}")

    def test_live_names_are_unique_and_deleted_ones_are_not(self, session: Session, make_repo: MakeRepo) -> None:
        one, two = make_repo(session, "one"), make_repo(session, "two")
        rename = "UPDATE repo SET name_key = 'one' WHERE id = :id"
        assert "UNIQUE" in refused(session, rename, id=two.id).upper()
        session.execute(text("UPDATE repo SET deleted_at = created_at WHERE id = :id"), {"id": one.id})
        session.execute(text(rename), {"id": two.id})
