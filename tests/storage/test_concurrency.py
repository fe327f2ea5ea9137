"""Several processes at one home: nothing is lost, nothing is half done, also when they are killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import Engine

from storage import accounts, aliases, open_database, read, repos, revisions, searches, versions, write
from storage.blobs import open_blobs
from storage.check import check

PUBLISHER = """
import itertools, os, sys
from storage import accounts, aliases, blob_records, open_database, repos, revisions, versions, write
from storage.blobs import open_blobs
from storage.errors import AlreadyExists
from storage.revisions import File

url, folder, who, count = sys.argv[1:]
engine, blobs = open_database(url), open_blobs(folder)
sys.stdin.read()  # all processes start together, when the parent closes their input
with write(engine) as session:
    account = accounts.ensure(session)
try:
    with write(engine) as session:
        repos.create(session, "local", "shared")
except AlreadyExists:
    pass
for number in range(int(count)) if int(count) else itertools.count():
    stored = blobs.put_stream([f"{who} {number} {os.getpid()}".encode() * 1000])
    with write(engine) as session:
        repo = repos.find(session, "local", "shared")
        repos.lock(session, repo)
        blob_records.record(session, account, [stored])
        log = revisions.refs.find(session, repo, "main")
        old = revisions.files_of(session, revisions.resolve(session, repo)) if log else []
        file = File(f"{who}-{number}-{os.getpid()}.bin", stored.size, stored.sha256, stored.git_sha1)
        made = revisions.create_revision(
            session, repo, [*old, file], parent=log.commit_id if log else None, author=who, title=f"{who} {number}"
        )
        versions.give(session, repo, made.revision)
        aliases.promote(session, repo, made.revision, "prod", actor=who)
        repos.count_download(session, repo)
    print("published", flush=True)
engine.dispose()
"""


def start(url: str, folder: Path, who: str, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PUBLISHER, url, str(folder), who, str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None


def test_publishers_at_one_home_lose_nothing(database_url: str, engine: Engine, tmp_path: Path) -> None:
    processes = [start(database_url, tmp_path / "blobs", who, 8) for who in ("ann", "bob", "eve")]
    for process in processes:
        go(process)
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    with read(engine) as session:
        repo = repos.find(session, "local", "shared")
        head = revisions.resolve(session, repo)
        assert len(revisions.log(session, head)) == 24
        assert len(revisions.files_of(session, head)) == 24
        assert [version.number for version in versions.every(session, repo)] == list(range(1, 25))
        history = aliases.history(session, repo, "prod")
        assert [event.seq for event in history] == list(range(1, 25))
        assert [event.commit_id for event in reversed(history)] == [
            revision.commit_id for revision in revisions.log(session, head)
        ]
        assert repo.downloads == 24
    assert check(engine, open_blobs(tmp_path / "blobs"), deep=True) == []


def test_a_home_is_consistent_after_kills_and_publishing_goes_on(
    database_url: str, engine: Engine, tmp_path: Path
) -> None:
    blobs = open_blobs(tmp_path / "blobs")
    draw = random.Random(0)
    published = 0
    for _ in range(5):
        process = start(database_url, tmp_path / "blobs", "ann", 0)
        go(process)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(draw.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        published += 1 + process.communicate()[0].count(b"published")
        assert [p for p in check(engine, blobs, deep=True) if p.severity == "problem"] == []
    with read(engine) as session:
        repo = repos.find(session, "local", "shared")
        log = revisions.log(session, revisions.resolve(session, repo))
        found = versions.every(session, repo)
        assert published <= len(log) <= published + 5  # killed after its commit, before it said so
        assert len(found) == len(log) == len(aliases.history(session, repo, "prod"))


def test_two_searches_store_their_trials_side_by_side(database_url: str, engine: Engine) -> None:
    other = open_database(database_url)
    with write(engine) as session:
        accounts.ensure(session)
        first = searches.start(session, adapters=(), config={}, examples_digest="0" * 64)
    with write(other) as session:
        second = searches.start(session, adapters=(), config={}, examples_digest="1" * 64)
    for number in range(5):
        for database, search in ((engine, first), (other, second)):
            with write(database) as session:
                trial = searches.Trial(number, "ask", (float(search.id),), 0.0, 0.0, 0.0)
                searches.add_trials(session, search, [trial])
    with read(engine) as session:
        assert [len(searches.trials(session, search)) for search in (first, second)] == [5, 5]
    other.dispose()
