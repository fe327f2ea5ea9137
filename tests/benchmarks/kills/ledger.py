"""What was acknowledged, remembered outside of the hub; and what of it a home does not have.

Paths are made so that all or nothing can be seen: each commit brings a folder of its own, whose files are known before
it is sent, and nobody deletes files.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.models import AccountRow, AliasEventRow, FileRow, RefRow, RepoRow, RevisionRow

Files = dict[str, str]
"""path -> sha256"""


@dataclass(frozen=True)
class Commit:
    """`files` are some or all of those that this revision has."""

    repo: str
    commit_id: str
    files: Files


@dataclass(frozen=True)
class Move:
    repo: str
    alias: str
    seq: int
    commit_id: str


@dataclass(frozen=True)
class Named:
    """A tag, version or branch."""

    repo: str
    name: str
    commit_id: str


@dataclass(frozen=True)
class Gone:
    """`name` empty: the repo."""

    repo: str
    name: str


@dataclass(frozen=True)
class Upload:
    """Bytes that no commit holds yet. `sweeps` had begun, and ended, when they were sent; a later one may take them, so
    may one that was running: then it is None."""

    repo: str
    sha256: str
    size: int
    sweeps: int | None


@dataclass
class Ledger:
    """For many threads at once."""

    commits: list[Commit] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    names: list[Named] = field(default_factory=list)
    gone: list[Gone] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    tried: dict[str, Files] = field(default_factory=dict)
    """Folder -> all files that it was to get."""
    tried_trees: set[frozenset[tuple[str, str]]] = field(default_factory=set)
    """Whole trees that were to be published."""
    deleting: set[Gone] = field(default_factory=set)
    """What somebody began to delete: it may be there or not."""
    sweeps: int = 0
    """Sweeps of all ages that have begun."""
    sweeping: int = 0
    """Sweeps that are running."""
    counted: Counter[str] = field(default_factory=Counter)
    """Acknowledged writes by kind."""
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Nothing is written down by others meanwhile."""
        with self._lock:
            yield

    def acknowledged(self, kind: str, entry: Commit | Move | Named | Gone | Upload | str) -> None:
        with self._lock:
            self.counted[kind] += 1
            place: dict[type, list] = {  # type: ignore[type-arg]
                Commit: self.commits, Move: self.moves, Named: self.names, Gone: self.gone, Upload: self.uploads,
                str: self.users,
            }  # fmt: skip
            place[type(entry)].append(entry)

    @contextmanager
    def sweep(self) -> Iterator[None]:
        """A sweep runs meanwhile."""
        with self._lock:
            self.sweeps += 1
            self.sweeping += 1
        try:
            yield
        finally:
            with self._lock:
                self.sweeping -= 1

    def sweeps_before(self) -> int | None:
        """For an upload that is sent now."""
        with self._lock:
            return None if self.sweeping else self.sweeps

    def will_delete(self, gone: Gone) -> None:
        with self._lock:
            self.deleting.add(gone)

    def snapshot(self) -> Ledger:
        """What a home that is looked at from now on must have."""
        with self._lock:
            return Ledger(
                list(self.commits), list(self.moves), list(self.names), list(self.gone), list(self.users),
                list(self.uploads),
            )  # fmt: skip

    def may_be_gone(self, repo: str, name: str = "") -> bool:
        return Gone(repo, "") in self.deleting or Gone(repo, name) in self.deleting


@dataclass(frozen=True)
class Held:
    """What a home has, read in one snapshot."""

    repos: set[str]
    trees: dict[str, Files]
    """commit id -> all files, of deleted repos too."""
    names: dict[tuple[str, str], str]
    """(repo, branch or tag) -> commit id"""
    moves: dict[tuple[str, str, int], str]
    users: set[str]


def held(session: Session) -> Held:
    full_name = AccountRow.name + "/" + RepoRow.name
    owners = select(RepoRow.id, full_name).join(AccountRow, AccountRow.id == RepoRow.account_id)
    live = {row[0]: row[1] for row in session.execute(owners.where(RepoRow.deleted_at.is_(None)))}
    commits = {row[0]: row[1] for row in session.execute(select(RevisionRow.id, RevisionRow.commit_id))}
    trees: dict[str, Files] = {commit_id: {} for commit_id in commits.values()}
    for revision, path, digest in session.execute(select(FileRow.revision_id, FileRow.path, FileRow.sha256)):
        trees[commits[revision]][path] = digest
    names = session.execute(select(RefRow.repo_id, RefRow.name, RefRow.revision_id))
    events = session.execute(
        select(AliasEventRow.repo_id, AliasEventRow.alias_id, AliasEventRow.seq, AliasEventRow.revision_id)
    )
    from storage.models import AliasRow

    aliases = {row[0]: row[1] for row in session.execute(select(AliasRow.id, AliasRow.name))}
    return Held(
        set(live.values()),
        trees,
        {(live[repo], name): commits[revision] for repo, name, revision in names if repo in live},
        {(live[repo], aliases[a], seq): commits[revision] for repo, a, seq, revision in events if repo in live},
        set(session.scalars(select(AccountRow.name))),
    )


def lost(must: Ledger, now: Ledger, found: Held) -> Iterator[str]:
    """One sentence for each acknowledged write of `must` that was not found. `now` knows what is being deleted."""
    for commit in must.commits:
        if now.may_be_gone(commit.repo):
            continue
        tree = found.trees.get(commit.commit_id)
        if tree is None or not commit.files.items() <= tree.items():
            yield f"commit {commit.commit_id} of {commit.repo} {'is not whole' if tree is not None else 'is gone'}"
        head = found.names.get((commit.repo, "main"))
        if not commit.repo.startswith("team/") and not commit.files.items() <= found.trees.get(head or "", {}).items():
            yield f"main of {commit.repo} no longer has commit {commit.commit_id}"
    for move in must.moves:
        if not now.may_be_gone(move.repo) and found.moves.get((move.repo, move.alias, move.seq)) != move.commit_id:
            yield f"move {move.seq} of {move.repo}@{move.alias} to {move.commit_id}"
    for named in must.names:
        there = found.names.get((named.repo, named.name))
        if not now.may_be_gone(named.repo, named.name) and there != named.commit_id:
            yield f"{named.repo}@{named.name} is at {there}, not at {named.commit_id}"
    for gone in must.gone:
        if (gone.repo, gone.name) in found.names if gone.name else gone.repo in found.repos:
            yield f"{gone.repo}@{gone.name} is back"
    for user in must.users:
        if user not in found.users:
            yield f"user {user}"


def halves(now: Ledger, found: Held) -> Iterator[str]:
    """One sentence for each commit that brought some of its files only, or others."""
    for commit_id, tree in found.trees.items():
        folders: dict[str, Files] = {}
        for path, digest in tree.items():
            folders.setdefault(path.partition("/")[0], {})[path] = digest
        for folder, files in folders.items():
            wanted = now.tried.get(folder)
            if wanted is None:
                if frozenset(tree.items()) not in now.tried_trees:
                    yield f"{commit_id} is a tree that nobody sent"
                break
            if files != wanted:
                yield f"{commit_id} has {sorted(files)} of {sorted(wanted)}"
