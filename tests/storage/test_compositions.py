from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from storage import compositions, repos
from storage.compositions import Composition, Parent
from storage.errors import AlreadyExists, InvalidName
from storage.repos import Repo
from storage.revisions import Revision

MakeRepo = Callable[..., Repo]
Commit = Callable[..., Revision]


def parent(repo: Repo, revision: Revision, weight: float = 1.0, folder: str = "") -> Parent:
    return Parent(repo.id, revision.id, revision.commit_id, folder, repo.full_name, weight, "1" * 64, "2" * 64)


class TestCompositions:
    def test_a_composition_comes_back_as_it_was_in_the_written_order(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        a, b, mix = (make_repo(session, name) for name in ("a", "b", "mix"))
        in_a, in_b, result = (commit(session, repo, repo.name.encode()) for repo in (a, b, mix))
        parents = (parent(b, in_b, -0.3, "x"), parent(a, in_a, 0.1 + 0.2), parent(b, in_b, 1e-300))
        made = Composition("lorahub", {"fold": "balanced"}, {"version": 1, "parents": [None]}, parents)
        compositions.record(session, result, made, folder="out")
        assert compositions.composition_of(session, result.id, "out") == made
        assert compositions.composition_of(session, result.id) is None
        with pytest.raises(AlreadyExists):
            compositions.record(session, result, made, folder="out")
        with pytest.raises(InvalidName, match="parent"):
            compositions.record(session, result, Composition("lorahub", {}, {}, ()))

    def test_the_lineage_shows_all_ancestors_once_and_the_direct_children(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        """a, b -> m; m, a -> n"""
        a, b, m, n = (make_repo(session, name) for name in ("a", "b", "m", "n"))
        in_a, in_b, in_m, in_n = (commit(session, repo, repo.name.encode()) for repo in (a, b, m, n))
        first = Composition("exact", {}, {}, (parent(a, in_a), parent(b, in_b)))
        second = Composition("exact", {}, {}, (parent(m, in_m, 0.5), parent(a, in_a, 2.0)))
        compositions.record(session, in_m, first)
        compositions.record(session, in_n, second)
        of_n = compositions.lineage(session, in_n)
        assert [(ancestor.depth, ancestor.parent.full_name) for ancestor in of_n.ancestors] == [
            (1, "local/m"), (1, "local/a"), (2, "local/b"),
        ]  # fmt: skip
        assert of_n.ancestors[0].composition == first
        assert of_n.children == ()
        of_a = compositions.lineage(session, in_a)
        assert of_a.ancestors == ()
        assert [(child.full_name, child.weight) for child in of_a.children] == [("local/m", 1.0), ("local/n", 2.0)]

    def test_a_deleted_parent_keeps_its_name_and_its_place(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        a, mix = make_repo(session, "a"), make_repo(session, "mix")
        in_a, result = commit(session, a, b"1"), commit(session, mix, b"2")
        compositions.record(session, result, Composition("exact", {}, {}, (parent(a, in_a),)))
        repos.delete(session, a, actor="ann")
        (ancestor,) = compositions.lineage(session, result).ancestors
        assert ancestor.parent == parent(a, in_a)
        repos.delete(session, mix, actor="ann")
        (child,) = compositions.lineage(session, in_a).children
        assert child.deleted
