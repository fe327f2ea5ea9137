"""Revisions that were published before there was a server show their cards and tags after `db upgrade`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import migrations
from hub.actions.accounts import create_user
from hub.actions.backfill import backfill
from hub.actions.publish import publish
from hub.address import parse_address as at
from hub.app import create_app
from hub.home import Home
from hub.settings import Settings
from storage import accounts, blob_records, repo_listing, repos, revisions, summaries
from storage.repo_listing import RepoFilter


@pytest.fixture
def old_home(home: Home, write_lora: Callable[..., Path]) -> Home:
    """A home of the first release, with adapters, one of which will have a card that no one can read."""
    card = "---\nlicense: mit\ntags: [sql]\n---\n# An adapter\n"
    for seed in (1, 2):
        publish(home, write_lora(f"a{seed}", seed=seed, card=card), at("team/a"))
    publish(home, write_lora("broken", seed=3), at("team/broken"))
    migrations.downgrade(home.engine, "0001")
    return home


def listed(home: Home, **filters: Any) -> list[str]:
    with home.read() as session:
        found = repo_listing.find_repos(session, RepoFilter(readers=None, **filters), limit=9)
    return [one.repo.full_name for one in found]


def test_upgrading_notes_cards_and_tags_of_every_revision(old_home: Home, mixhub: Callable[..., Any]) -> None:
    assert mixhub("db", "upgrade").code == 0
    with old_home.read() as session:
        for revision in revisions.log(session, revisions.resolve(session, repos.find(session, "team", "a"))):
            assert summaries.card_of(session, revision.id) == {"license": "mit", "tags": ["sql"]}
            assert {"peft", "lora", "sql", "license:mit"} <= set(summaries.tags_of(session, [revision.id])[revision.id])
    assert listed(old_home, tags=("license:mit",)) == ["team/a"]
    assert listed(old_home) == ["team/a", "team/broken"]
    assert backfill(old_home) == 0


def test_a_server_does_the_same_when_it_starts(old_home: Home) -> None:
    settings = Settings(home=old_home.directory, database_url="", blobs_url="")
    with TestClient(create_app(settings)):
        create_user(old_home, "ann", is_admin=True)
        assert listed(old_home, tags=("sql",)) == ["team/a"]


def test_a_card_that_no_one_can_read_stops_nothing(old_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    migrations.upgrade(old_home.engine)
    monkeypatch.setattr("hub.actions.backfill.BATCH", 1)
    with old_home.write() as session:  # as a release took it that did not look into cards
        repo = repos.find(session, "team", "broken")
        stored = old_home.blobs.put_stream([b"---\na: [\n---\n"])
        blob_records.record(session, accounts.find(session, "local"), [stored])
        head = revisions.resolve(session, repo)
        card = revisions.File("README.md", stored.size, stored.sha256, stored.git_sha1, "regular")
        revisions.create_revision(session, repo, [card], parent=head.commit_id, author="local", title="card")
    assert backfill(old_home) == 4
    assert listed(old_home, tags=("sql",)) == ["team/a"]
