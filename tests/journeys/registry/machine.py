"""A home that does what a model does, and the machine of hypothesis that looks for a sequence where it does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from hub.actions import accounts as account_actions
from hub.errors import HubError
from hub.home import Home, open_home
from storage.check import check
from storage.errors import StorageError
from tests.journeys.registry import model
from tests.journeys.registry.model import Refused, State, sha256_of
from tests.journeys.registry.verbs import ALIASES, NAMES, Op, observe, perform, restore, settings_of

ROOT = Path(__file__).parents[3]
KILLED, REFUSED = -9, 3
Crashes = Callable[[Path, Op, int], int]
"""(home, operation, events) -> the exit status of a process that did it and died after so many events."""


@contextmanager
def crashing_processes() -> Iterator[Crashes]:
    command = [sys.executable, "-m", "tests.journeys.registry.crashes"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:  # fmt: skip
        assert server.stdin is not None and server.stdout is not None
        wire_in, wire_out = server.stdin, server.stdout

        def ask(home: Path, op: Op, events: int) -> int:
            wire_in.write(json.dumps({"home": str(home), "op": op, "events": events}) + "\n")
            wire_in.flush()
            return int(json.loads(wire_out.readline()))

        yield ask
        wire_in.close()


def make_home(folder: Path) -> Path:
    """A home with the accounts that the operations speak of."""
    with open_home(settings_of(folder)) as home:
        account_actions.first_start(home)
        account_actions.create_org(home, "team", owner="admin")
        account_actions.create_user(home, "ann")
        account_actions.put_member(home, "team", user="ann", role="write")
    return folder


class Registry:
    """A home at `folder`, which holds accounts only, and what must be in it."""

    def __init__(self, folder: Path, crashes: Crashes) -> None:
        self.folder, self._crashes = folder, crashes
        self.state: State = model.EMPTY
        self.deaths = 0
        """Of the processes that did operations."""
        self.backed_up = False
        self._backups: list[State] = []
        """What the backup may hold: a process that died over it has replaced it or not."""
        self._restored = 0
        self._open()

    def do(self, op: Op, crash: int | None = None) -> None:
        """Do it here, or in a process that dies after `crash` events. AssertionError where home and model differ."""
        try:
            wanted = model.after(self.state, op)
        except Refused:
            wanted = None
        if crash is None:
            self._do_here(op, wanted)
        else:
            self._do_elsewhere(op, wanted, crash)

    def back_up(self, crash: int | None = None) -> None:
        """Into the same folder each time."""
        op = {"verb": "backup", "to": str(self.folder.parent / "backup")}
        died = self._without_a_change(op, crash)
        self.backed_up = self.backed_up or not died
        self._backups = [*self._backups, self.state] if died else [self.state]

    def restore(self, crash: int | None = None) -> None:
        """The home is another one from then on, as it was when it was backed up. What dies over it is done again."""
        self._restored += 1
        target = self.folder.parent / f"restored-{self._restored}"
        op = {"verb": "restore", "to": str(target), "from": str(self.folder.parent / "backup")}
        if crash is None or self._without_a_change(op, crash):
            restore(op)
        self.close()
        self.folder = target
        self._open()
        self._look_at_bytes(op)
        differences = [self._difference(state) for state in self._backups]
        assert not all(differences), f"after {op}: (model, home) {differences}"

    def _without_a_change(self, op: Op, crash: int | None) -> bool:
        """Do what leaves the home as it is. Whether it died."""
        status = 0
        if crash is None:
            perform(self.home, op)
        else:
            self.close()
            try:
                status = self._crashes(self.folder, op, crash)
            finally:
                self._open()
        assert status in (0, KILLED), (op, status)
        self.deaths += status == KILLED
        self._look_at_bytes(op)
        difference = self._difference(self.state)
        assert not difference, f"after {op}: (model, home) {difference}"
        return status == KILLED

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def _do_here(self, op: Op, wanted: State | None) -> None:
        refused = False
        try:
            perform(self.home, op)
        except (HubError, StorageError) as error:
            refused = True
            assert wanted is None, f"{op} was refused: {error}"
        assert refused == (wanted is None), f"{op} was not refused"
        self._look_at_bytes(op)
        difference = self._difference(self.state if wanted is None else wanted)
        assert not difference, f"after {op}: (model, home) {difference}"

    def _do_elsewhere(self, op: Op, wanted: State | None, crash: int) -> None:
        self.close()
        try:
            status = self._crashes(self.folder, op, crash)
        finally:
            self._open()
        self.deaths += status == KILLED
        self._look_at_bytes(op)
        assert status in ((REFUSED, KILLED) if wanted is None else (0, KILLED)), (op, status)
        all_of_it = ["refused"] if wanted is None else self._difference(wanted)
        if all_of_it:
            nothing_of_it = self._difference(self.state)
            assert not nothing_of_it, f"half of {op}, after {crash} events: (model, home) {all_of_it}, {nothing_of_it}"
            assert status != 0, f"nothing of {op}"

    def _difference(self, wanted: State) -> object:
        """What differs from this state; where nothing does, it is the present one from then on."""
        seen = observe(self.home)
        bound = model.bind(wanted, self.state, seen)
        view = model.view(bound)
        difference = {name: (view[name], seen[name]) for name in model.OBSERVED if view[name] != seen[name]}
        if not difference:
            self.state = {**bound, "brought": seen["brought"]}
        return difference

    def _look_at_bytes(self, op: Op) -> None:
        found = check(self.home.engine, self.home.blobs, deep=True)  # `db check --deep`, but for its look at the schema
        problems = [problem for problem in found if problem.severity == "problem"]
        assert problems == [], f"after {op}: {problems}"

    def _open(self) -> None:
        self._opened = open_home(settings_of(self.folder))
        self.home: Home = self._opened.__enter__()


CONTENTS = st.sampled_from(("one", "two", "three"))
PATHS = st.sampled_from(("a.txt", "b.txt", "d/e.txt", "d"))
REFS = st.sampled_from(("dev", "x", "prod", "v1"))
NAME = st.sampled_from(NAMES)
ALIAS = st.sampled_from(ALIASES)
NUMBER = st.integers(1, 3)
VISIBILITY = st.sampled_from(("public", "private"))
CRASH = st.one_of(st.none(), st.none(), st.integers(0, 24))
"""Mostly, nothing dies."""


class RegistryMachine(RuleBasedStateMachine):
    """Each rule is one verb on names that are there or not."""

    def __init__(self, template: Path, adapters: list[tuple[Path, dict[str, Any]]], crashes: Crashes) -> None:
        super().__init__()
        self._adapters = adapters
        self._scratch = tempfile.TemporaryDirectory(prefix="mixhub-registry-")
        home = Path(shutil.copytree(template, Path(self._scratch.name) / "home"))
        self._registry = Registry(home, crashes)

    def teardown(self) -> None:
        self._registry.close()
        self._scratch.cleanup()

    @initialize(name=NAME, alias=ALIAS)
    def begin(self, name: str, alias: str) -> None:
        """With less than this, most of what follows would be refused."""
        self._do(None, verb="create", repo=name, visibility="public")
        for content in ("one", "two"):
            self._commit_one(None, name, "a.txt", content)
            self._do(None, verb="version", repo=name, number=None, at="main")
            self._do(None, verb="promote", repo=name, alias=alias, at="main", who="")

    @rule(crash=CRASH, name=NAME, visibility=VISIBILITY)
    def create(self, crash: int | None, name: str, visibility: str) -> None:
        self._do(crash, verb="create", repo=name, visibility=visibility)

    @rule(
        crash=CRASH, data=st.data(), puts=st.dictionaries(PATHS, CONTENTS, max_size=2),
        claims=st.dictionaries(PATHS, CONTENTS, max_size=1),
    )  # fmt: skip
    def commit(self, crash: int | None, data: st.DataObject, **changes: Any) -> None:
        repo = self._live(data)
        branch = self._pick(data, self._refs(repo, "branch"), ("main", "dev"))
        there = self._files(repo, branch)
        copies = {data.draw(PATHS): self._pick(data, there, ("b.txt",))} if data.draw(st.booleans()) else {}
        deletes = [self._pick(data, there, ("b.txt",))] if data.draw(st.booleans()) else []
        self._do(crash, verb="commit", repo=repo, branch=branch, copies=copies, deletes=deletes, **changes)

    @rule(crash=CRASH, data=st.data(), content=CONTENTS, path=PATHS)
    def commit_one(self, crash: int | None, data: st.DataObject, content: str, path: str) -> None:
        self._commit_one(crash, self._live(data), path, content)

    @rule(crash=CRASH, name=NAME, which=st.integers(0, 1))
    def publish(self, crash: int | None, name: str, which: int) -> None:
        folder, files = self._adapters[which]
        self._do(crash, verb="publish", repo=name, folder=str(folder), files=files)

    @rule(crash=CRASH, data=st.data(), name=REFS, kind=st.sampled_from(("branch", "tag")))
    def name(self, crash: int | None, data: st.DataObject, name: str, kind: str) -> None:
        repo = self._live(data)
        self._do(crash, verb=kind, repo=repo, name=name, at=self._at(data, repo))

    @rule(crash=CRASH, data=st.data(), number=st.one_of(st.none(), NUMBER))
    def version(self, crash: int | None, data: st.DataObject, number: int | None) -> None:
        repo = self._live(data)
        self._do(crash, verb="version", repo=repo, number=number, at=self._at(data, repo))

    @rule(crash=CRASH, data=st.data(), kind=st.sampled_from(("branch", "tag")))
    def delete_name(self, crash: int | None, data: st.DataObject, kind: str) -> None:
        repo = self._live(data)
        self._do(crash, verb=f"delete {kind}", repo=repo, name=self._pick(data, self._refs(repo, kind), ("x", "prod")))

    @rule(crash=CRASH, data=st.data())
    def delete_version(self, crash: int | None, data: st.DataObject) -> None:
        repo = self._live(data)
        numbers = [name[1:] for name in self._refs(repo, "tag") if name[0] == "v"]
        self._do(crash, verb="delete version", repo=repo, number=int(self._pick(data, numbers, ("1",))))

    @rule(crash=CRASH, data=st.data(), force=st.booleans())
    def delete_repo(self, crash: int | None, data: st.DataObject, force: bool) -> None:
        self._do(crash, verb="delete repo", repo=self._live(data), force=force)

    @rule(crash=CRASH, data=st.data(), alias=ALIAS, who=st.sampled_from(("", "admin", "ann")))
    def promote(self, crash: int | None, data: st.DataObject, alias: str, who: str) -> None:
        repo = self._live(data)
        self._do(crash, verb="promote", repo=repo, alias=alias, at=self._at(data, repo), who=who)

    @rule(crash=CRASH, data=st.data())
    def rollback(self, crash: int | None, data: st.DataObject) -> None:
        repo = self._live(data)
        moved = self._registry.state["moves"].get(self._registry.state["repos"].get(repo), ())
        self._do(crash, verb="rollback", repo=repo, alias=self._pick(data, moved, ("prod",)))

    @rule(crash=CRASH, data=st.data(), alias=ALIAS, role=st.sampled_from(("write", "admin")))
    def protect(self, crash: int | None, data: st.DataObject, alias: str, role: str) -> None:
        self._do(crash, verb="protect", repo=self._live(data), alias=alias, role=role)

    @rule(crash=CRASH, data=st.data(), to=NAME, verb=st.sampled_from(("rename", "duplicate")))
    def rename_or_duplicate(self, crash: int | None, data: st.DataObject, to: str, verb: str) -> None:
        self._do(crash, verb=verb, repo=self._live(data), to=to)

    @rule(crash=CRASH, data=st.data(), visibility=VISIBILITY)
    def open_or_close(self, crash: int | None, data: st.DataObject, visibility: str) -> None:
        self._do(crash, verb="open or close", repo=self._live(data), visibility=visibility)

    @rule(crash=CRASH, verb=st.sampled_from(("gc", "reclaim")))
    def sweep(self, crash: int | None, verb: str) -> None:
        self._do(crash, verb=verb)

    @rule(crash=CRASH)
    def back_up(self, crash: int | None) -> None:
        self._registry.back_up(crash)

    @precondition(lambda self: self._registry.backed_up)
    @rule(crash=CRASH)
    def restore(self, crash: int | None) -> None:
        self._registry.restore(crash)

    def _commit_one(self, crash: int | None, repo: str, path: str, content: str) -> None:
        no_more: Op = {"claims": {}, "copies": {}, "deletes": []}
        self._do(crash, verb="commit", repo=repo, branch="main", puts={path: content}, **no_more)

    def _do(self, crash: int | None, **op: Any) -> None:
        self._registry.do(op, crash)

    def _live(self, data: st.DataObject) -> str:
        """A name of a repo that is there, or, seldom, any name."""
        return self._pick(data, self._registry.state["repos"], NAMES[::3])

    def _at(self, data: st.DataObject, repo: str) -> str:
        """A name or a commit of the repo, or, seldom, what is none."""
        state = self._registry.state
        uuid = state["repos"].get(repo)
        mine = [commit for commit, found in state["commits"].items() if found[0] == uuid]
        return self._pick(data, [*state["refs"].get(uuid, ()), *state["moves"].get(uuid, ()), *mine], ("nowhere",))

    def _refs(self, repo: str, kind: str) -> list[str]:
        refs = self._registry.state["refs"].get(self._registry.state["repos"].get(repo), {})
        return [name for name, ref in refs.items() if ref[0] == kind]

    def _files(self, repo: str, branch: str) -> list[str]:
        refs = self._registry.state["refs"].get(self._registry.state["repos"].get(repo), {})
        return list(self._registry.state["commits"][refs[branch][1]][2]) if branch in refs else []

    def _pick(self, data: st.DataObject, likely: Iterable[str], other: tuple[str, ...]) -> str:
        """One of those that are there in three of four cases."""
        there = sorted(likely)
        if not there or data.draw(st.integers(0, 3)) == 3:
            return data.draw(st.sampled_from(other))
        return data.draw(st.sampled_from(there))


def adapter_files(folder: Path) -> dict[str, list[str]]:
    """path -> sha256 and mode, as the files of a folder are published."""
    return {
        path.name: [
            sha256_of(path.read_bytes()),
            "lfs" if path.suffix == ".safetensors" else "regular",
        ]
        for path in folder.iterdir()
    }
