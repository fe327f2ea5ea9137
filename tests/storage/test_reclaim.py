from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from storage import aliases, compositions, repos, revisions, tombstones, versions
from storage.compositions import Composition, Parent
from storage.errors import NotFound
from storage.reclaim import reclaim
from storage.repos import Repo
from storage.revisions import Revision

MakeRepo = Callable[..., Repo]
Commit = Callable[..., Revision]

LATER = datetime.now(UTC) + timedelta(days=1)


def exists(session: Session, revision: Revision) -> bool:
    try:
        revisions.by_id(session, revision.id)
    except NotFound:
        return False
    return True


class TestReclaim:
    def test_revisions_of_a_deleted_repo_go_and_its_versions_stay_forbidden(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        live, dead = make_repo(session, "live"), make_repo(session, "dead")
        kept, gone = commit(session, live), [commit(session, dead, bytes([n])) for n in range(3)]
        versions.give(session, dead, gone[0])
        repos.delete(session, dead, actor="ann")
        assert reclaim(session, deleted_before=datetime.now(UTC) - timedelta(days=1)) == 0
        assert reclaim(session, deleted_before=LATER) == 3
        assert exists(session, kept)
        assert not any(exists(session, revision) for revision in gone)
        assert len(tombstones.of(session, account_id=dead.account_id, repo_name="dead")) == 1

    def test_what_a_mix_or_an_alias_pins_stays_with_its_ancestors(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        parent, mix = make_repo(session, "parent"), make_repo(session, "mix")
        first, pinned, last = (commit(session, parent, bytes([n])) for n in range(3))
        result = commit(session, mix, b"mix")
        used = Parent(parent.id, pinned.id, pinned.commit_id, "", "local/parent", 1.0, "0" * 64, "0" * 64)
        compositions.record(session, result, Composition("exact", {}, {}, (used,)))
        aliases.promote(session, mix, result, "prod", actor="ann")
        for repo in (parent, mix):
            repos.delete(session, repo, actor="ann")
        assert reclaim(session, deleted_before=LATER) == 1
        assert [exists(session, r) for r in (first, pinned, last, result)] == [True, True, False, True]

    @pytest.mark.parametrize("delete_mix", [False, True])
    def test_a_mix_that_goes_lets_its_parents_go(
        self, session: Session, make_repo: MakeRepo, commit: Commit, delete_mix: bool
    ) -> None:
        parent, mix = make_repo(session, "parent"), make_repo(session, "mix")
        pinned, result = commit(session, parent), commit(session, mix, b"mix")
        used = Parent(parent.id, pinned.id, pinned.commit_id, "", "local/parent", 1.0, "0" * 64, "0" * 64)
        compositions.record(session, result, Composition("exact", {}, {}, (used,)))
        repos.delete(session, parent, actor="ann")
        if delete_mix:
            repos.delete(session, mix, actor="ann")
        assert reclaim(session, deleted_before=LATER) == (2 if delete_mix else 0)
        assert exists(session, pinned) is not delete_mix
