"""Tokens, members, keys and other rows of a server, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storage import (
    access_requests,
    accounts,
    alias_protection,
    blob_records,
    members,
    pull_requests,
    redirects,
    repo_listing,
    repos,
    revisions,
    server_keys,
    summaries,
    tokens,
)  # fmt: skip
from storage.clock import utc_now
from storage.errors import Conflict, NotFound
from storage.repo_listing import RepoFilter
from storage.repos import Repo
from storage.revisions import Revision

Make = Callable[..., Repo]
Commit = Callable[..., Revision]


def test_a_token_is_found_by_its_digest_until_it_expires_or_is_revoked(session: Session) -> None:
    ann, now = accounts.ensure(session, "ann"), utc_now()
    made = tokens.add(
        session, ann, name="a", sha256="a" * 64, role="write", expires_at=now + timedelta(days=1), now=now
    )
    assert tokens.by_digest(session, "a" * 64, now=now) == made
    assert tokens.by_digest(session, "a" * 64, now=now + timedelta(days=2)) is None
    tokens.revoke(session, made.id)
    assert tokens.by_digest(session, "a" * 64, now=now) is None
    with pytest.raises(NotFound):
        tokens.revoke(session, made.id + 1)
    with pytest.raises(IntegrityError), session.begin_nested():
        tokens.add(session, ann, name="b", sha256="a" * 64, role="read")


def test_roles_come_from_owning_and_from_membership(session: Session) -> None:
    ann, bob = accounts.ensure(session, "ann"), accounts.ensure(session, "bob")
    org = accounts.ensure(session, "org", kind="org", owner=ann)
    members.put(session, org, bob, "read")
    members.put(session, org, bob, "write")
    assert members.roles_of(session, bob) == {bob.id: "admin", org.id: "write"}
    assert members.roles_of(session, ann) == {ann.id: "admin", org.id: "admin"}
    members.remove(session, org, bob)
    assert members.members_of(session, org) == {}


def test_a_key_is_drawn_once(session: Session) -> None:
    assert server_keys.key(session, "uploads") == server_keys.key(session, "uploads")
    assert server_keys.key(session, "uploads") != server_keys.key(session, "other")


def test_a_digest_is_usable_where_its_private_repo_is_read(session: Session, make_repo: Make, commit: Commit) -> None:
    repo = make_repo(session, "secret", account="ann", visibility="private")
    held = revisions.files_of(session, commit(session, repo))[0].sha256
    bob = accounts.ensure(session, "bob")
    assert not blob_records.blobs_usable(session, bob, [held])
    assert blob_records.blobs_usable(session, bob, [held], readers=[repo.account_id])
    assert blob_records.used_bytes(session, bob.id) == 0


def test_a_listing_shows_what_the_reader_may_see(session: Session, make_repo: Make, commit: Commit) -> None:
    for name, visibility in (("open", "public"), ("closed", "private")):
        repo = make_repo(session, name, account="ann", visibility=visibility)
        head = commit(session, repo, name.encode())
        summaries.record(session, head, card={"license": "mit"}, tags=["peft", name])
        assert summaries.card_of(session, head.id) == {"license": "mit"}
        assert summaries.tags_of(session, [head.id]) == {head.id: sorted(["peft", name])}

    def listed(**filters: object) -> list[str]:
        found = repo_listing.find_repos(session, RepoFilter(**filters), limit=9)  # type: ignore[arg-type]
        return [one.repo.name for one in found]

    ann = accounts.find(session, "ann")
    assert listed() == ["open"] and listed(readers=None) == ["closed", "open"] == listed(readers={ann.id})
    assert listed(readers=None, tags=("peft", "closed")) == ["closed"] and listed(tags=("closed",)) == []
    assert listed(readers=None, text="ANN os") == ["closed"] and listed(readers=None, text="%") == []


def test_a_former_name_leads_on_until_it_is_used_again(session: Session, make_repo: Make) -> None:
    repo = make_repo(session, "old", account="ann")
    moved = repos.rename(session, repo, name="new", actor="ann")
    redirects.leave(session, repo)
    assert redirects.follow(session, "ANN", "Old") == moved
    repos.delete(session, moved, actor="ann")
    assert redirects.follow(session, "ann", "old") is None


def test_pull_requests_are_numbered_per_repo(session: Session, make_repo: Make, commit: Commit) -> None:
    repo = make_repo(session, "r", account="ann")
    head = commit(session, repo)
    opened = [pull_requests.open_one(session, repo, head, title=str(i), description="", author="bob") for i in range(2)]
    assert [one.ref for one in opened] == ["refs/pr/1", "refs/pr/2"]
    assert revisions.resolve(session, repo, "refs/pr/2") == head
    assert pull_requests.set_status(session, repo, 1, "closed").status == "closed"
    with pytest.raises(NotFound):
        pull_requests.find(session, repo, 3)


def test_squashing_keeps_files_and_old_commits(session: Session, make_repo: Make, commit: Commit) -> None:
    repo = make_repo(session, "s", account="ann")
    commit(session, repo, b"1")
    old = commit(session, repo, b"2")
    new = revisions.squash(session, repo, "main", author="ann", title="one")
    assert revisions.log(session, new) == [new] and new.tree_digest == old.tree_digest
    assert revisions.resolve(session, repo).commit_id == new.commit_id != old.commit_id
    assert revisions.resolve(session, repo, old.commit_id) == old


def test_a_broken_revision_gets_no_version(session: Session, make_repo: Make, commit: Commit) -> None:
    from storage import versions

    repo = make_repo(session, "b", account="ann")
    broken = revisions.set_state(session, commit(session, repo), "broken", reason="no fit")
    with pytest.raises(Conflict, match="no fit"):
        versions.give(session, repo, broken)


def test_requests_and_protections_are_remembered(session: Session, make_repo: Make) -> None:
    repo, bob = make_repo(session, "g", account="ann"), accounts.ensure(session, "bob")
    assert access_requests.status(session, repo, bob.id) is None
    access_requests.put(session, repo, bob, "pending")
    access_requests.put(session, repo, bob, "accepted")
    assert [name for name, _ in access_requests.listed(session, repo, "accepted")] == ["bob"]
    assert alias_protection.role_for(session, repo, "prod") == "write"
    alias_protection.protect(session, repo, "prod", "admin")
    assert alias_protection.role_for(session, repo, "prod") == "admin"
    alias_protection.protect(session, repo, "prod", "write")
    assert alias_protection.role_for(session, repo, "prod") == "write"
