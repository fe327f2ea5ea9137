"""Revisions of another hub: kept under their commit ids, with the files that were needed so far."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session

from storage import mirrored, revisions
from storage.mirrored import Origin
from storage.repos import Repo
from storage.revisions import File, Revision

THEIRS = Origin("5f" * 20, "their words", "broken", "their reason")


def test_a_revision_is_found_by_the_id_that_it_has_elsewhere(
    session: Session, make_repo: Callable[..., Repo], make_file: Callable[..., File]
) -> None:
    repo = make_repo(session)
    made = mirrored.add(session, repo, THEIRS, [make_file(session, "a", b"a")])
    assert revisions.resolve(session, repo, THEIRS.commit_id) == made
    assert (made.commit_id, made.title, made.state, made.reason) == ("5f" * 20, "their words", "broken", "their reason")


def test_more_of_its_files_may_follow_and_none_is_kept_twice(
    session: Session, make_repo: Callable[..., Repo], make_file: Callable[..., File]
) -> None:
    repo = make_repo(session)
    one, other = make_file(session, "a", b"a"), make_file(session, "b", b"b")
    first = mirrored.add(session, repo, THEIRS, [one])
    again = mirrored.add(session, repo, THEIRS, [one, other])
    assert again.id == first.id and revisions.files_of(session, again) == [one, other]


def test_main_goes_where_it_is_elsewhere(
    session: Session, make_repo: Callable[..., Repo], commit: Callable[..., Revision]
) -> None:
    repo = make_repo(session)
    commit(session, repo)
    for number in ("1", "2", "2"):
        theirs = mirrored.add(session, repo, Origin(number * 40), [])
        mirrored.point_main(session, repo, theirs)
        assert revisions.resolve(session, repo) == theirs
    empty = make_repo(session, "empty")
    mirrored.point_main(session, empty, mirrored.add(session, empty, Origin("3" * 40), []))
    assert revisions.resolve(session, empty).commit_id == "3" * 40
