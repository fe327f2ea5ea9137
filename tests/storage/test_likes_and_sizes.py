"""Likes, large files over all commits, and what repos hold, on both databases."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from storage import accounts, aliases, lfs_files, likes, refs, repo_sizes, repos, revisions
from storage.errors import Conflict, NotFound
from storage.repos import Repo
from storage.revisions import Revision

Make = Callable[..., Repo]
Commit = Callable[..., Revision]


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_like_counts_once_and_leaves_with_the_liker_s_word(session: Session, make_repo: Make) -> None:
    repo, hidden = make_repo(session, "liked", account="ann"), make_repo(session, "hidden", visibility="private")
    bob = accounts.ensure(session, "bob")
    for _ in range(2):
        likes.put(session, repo, bob)
    likes.put(session, hidden, bob)
    assert repos.by_id(session, repo.id).likes == 1 and likes.likers(session, repo) == ["bob"]
    assert [name for name, _ in likes.liked_by(session, bob, readers=())] == ["ann/liked"]
    assert len(likes.liked_by(session, bob, readers=None)) == 2
    for _ in range(2):
        likes.remove(session, repo, bob)
    assert repos.by_id(session, repo.id).likes == 0 and likes.likers(session, repo) == []


def test_what_a_repo_holds_counts_each_content_once(session: Session, make_repo: Make, commit: Commit) -> None:
    one, two, empty = (make_repo(session, name) for name in ("one", "two", "empty"))
    for content in (b"12345", b"123", b"12345"):
        commit(session, one, content)
    commit(session, two, b"12345")
    assert repo_sizes.held_bytes(session, [one.id, two.id, empty.id]) == {one.id: 8, two.id: 5}


def test_commits_with_a_content_go_only_when_nothing_leads_to_them(
    session: Session, make_repo: Make, commit: Commit
) -> None:
    repo = make_repo(session, "r", account="ann")
    first, second = commit(session, repo, b"leaked"), commit(session, repo, b"good")
    listed = {one.sha256: (one.path, one.branch) for one in lfs_files.every(session, repo)}
    assert listed == {sha(b"leaked"): ("a.bin", None), sha(b"good"): ("a.bin", "main")}
    with pytest.raises(NotFound):
        lfs_files.remove(session, repo, {sha(b"other")})
    with pytest.raises(Conflict):
        lfs_files.remove(session, repo, {sha(b"leaked")})  # main has grown from it
    new = revisions.squash(session, repo, "main", author="ann", title="one")
    refs.create_tag(session, repo, "keep", revision_id=second.id)
    with pytest.raises(Conflict):
        lfs_files.remove(session, repo, {sha(b"leaked")})  # and so has the tag
    refs.delete_tag(session, repo, "keep")
    assert lfs_files.remove(session, repo, {sha(b"leaked")}) == 2  # what was built on it goes too
    assert [one.sha256 for one in lfs_files.every(session, repo)] == [sha(b"good")]
    assert revisions.resolve(session, repo) == new
    with pytest.raises(NotFound):
        revisions.resolve(session, repo, first.commit_id)


def test_what_an_alias_once_named_stays(session: Session, make_repo: Make, commit: Commit) -> None:
    repo = make_repo(session, "a", account="ann")
    old = commit(session, repo, b"old")
    aliases.promote(session, repo, old, "prod", actor="ann")
    commit(session, repo, b"new")
    new = revisions.squash(session, repo, "main", author="ann", title="one")
    aliases.promote(session, repo, new, "prod", actor="ann")
    with pytest.raises(Conflict):
        lfs_files.remove(session, repo, {sha(b"old")})
    assert aliases.rollback(session, repo, "prod", actor="ann").commit_id == old.commit_id
