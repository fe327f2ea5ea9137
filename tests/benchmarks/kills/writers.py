"""Threads that write to the home all the time: over HTTP, and as commands on the same home. What they are told is done
goes into the ledger; what was cut off is nobody's, and may be there or not, but never by half."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np
from kills.ledger import Commit, Files, Gone, Ledger, Move, Named, Upload
from kills.processes import KILLED, Nursery, Process, Server
from kills.wire import Refused, Wire, sha256
from safetensors.numpy import save_file

COMMITS_PER_REPO = 12
KINDS = ("commit", "lfs", "xet", "promote", "delete")
WEIGHTS = (4, 2, 2, 3, 2)
COMMAND_SECONDS = 90
SWEEP = ("db", "gc", "--older-than", "0")


@dataclass
class Seen:
    """What was told besides the ledger. `problems` must stay empty."""

    problems: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)


class HttpWriter:
    """One client with repos of its own, whose requests come one after the other."""

    def __init__(self, name: str, server: Server, ledger: Ledger, seen: Seen, *, seed: str) -> None:
        self.name, self._server, self._ledger, self._seen = name, server, ledger, seen
        self._random = random.Random(seed)
        self._wire = Wire(server.url, server.token)
        self._number = self._repos = 0
        self._repo = ""
        self._commits: list[str] = []
        self._retired: list[str] = []
        self._aliased: set[str] = set()
        """Commits that an alias may name."""

    def write(self, kind: str) -> bool:
        """One write of this kind. False: no answer came."""
        try:
            self._ensure_repo()
            getattr(self, f"_{kind}")()
        except httpx2.TransportError:
            self._seen.cut[kind] += 1
            return False
        except Refused as refusal:
            self._note(refusal)
        return True

    def write_until(self, stopped: threading.Event) -> None:
        """Any kind, until `stopped`, while the server is writable."""
        while not stopped.is_set():
            if self._server.writable.wait(0.1):
                kind = self._random.choices(KINDS, WEIGHTS)[0]
                if not self.write(kind):
                    time.sleep(0.02)

    def close(self) -> None:
        self._wire.close()

    def _ensure_repo(self) -> None:
        if self._repo and len(self._commits) < COMMITS_PER_REPO:
            return
        if self._repo:
            self._retired.append(self._repo)
        self._repos += 1
        self._commits, self._aliased = [], set()
        self._repo = ""
        name = f"admin/{self.name}-{self._repos}"
        self._wire.create_repo(name)
        self._repo = name

    def _commit(self, large: bytes = b"") -> str:
        """Small files, and perhaps a large one that was uploaded."""
        self._number += 1
        folder = f"{self.name}-{self._number}"
        count = self._random.randint(1, 3)
        inside = {f"{folder}/{i}.txt": self._bytes(20_000) for i in range(count)}
        outside = {f"{folder}/large.gguf": large} if large else {}
        files = {path: sha256(content) for path, content in {**inside, **outside}.items()}
        with self._ledger.open():
            self._ledger.tried[folder] = files
        commit_id = self._wire.commit(self._repo, inside, outside)
        self._ledger.acknowledged("commit", Commit(self._repo, commit_id, files))
        self._commits.append(commit_id)
        return commit_id

    def _lfs(self) -> None:
        self._upload("lfs", self._wire.upload_lfs)

    def _xet(self) -> None:
        self._upload("xet", self._wire.upload_xet)

    def _upload(self, kind: str, send: Callable[[str, bytes], None]) -> None:
        content = self._bytes(400_000)
        sweeps = self._ledger.sweeps_before()
        send(self._repo, content)
        self._ledger.acknowledged(f"{kind} upload", Upload(self._repo, sha256(content), len(content), sweeps))
        if self._random.random() < 0.8:  # the others are what a sweep takes
            self._commit(content)

    def _bytes(self, most: int) -> bytes:
        """Nothing that could be taken for a pickle."""
        return b"bytes " + self._random.randbytes(self._random.randint(1, most))

    def _promote(self) -> None:
        commit_id = self._random.choice(self._commits) if self._commits else self._commit()
        alias = self._random.choice(("prod", "staging"))
        self._aliased.add(commit_id)
        seq = self._wire.promote(self._repo, alias, commit_id)
        self._ledger.acknowledged("promote", Move(self._repo, alias, seq, commit_id))

    def _delete(self) -> None:
        """A repo that is written to no more, or a name that is made for it."""
        if self._retired and self._random.random() < 0.3:
            self._go("repo", self._retired.pop(0), "")
            return
        commit_id = self._commit()
        self._number += 1
        kind, name = self._random.choice((("version", "v"), ("tag", "t"), ("branch", "b")))
        name = f"{name}{self._number}"
        (self._wire.branch if kind == "branch" else self._wire.tag)(self._repo, name, commit_id)
        self._ledger.acknowledged(kind, Named(self._repo, name, commit_id))
        if self._random.random() < 0.8:
            self._go(kind, self._repo, name)

    def _go(self, kind: str, repo: str, name: str) -> None:
        gone = Gone(repo, name)
        self._ledger.will_delete(gone)
        self._wire.delete(kind, repo, name)
        self._ledger.acknowledged("delete", gone)

    def _note(self, refusal: Refused) -> None:
        """Bytes that a sweep of all ages took before their commit came are asked for again, or said to be missing; all
        else is a problem."""
        said = str(refusal)
        swept = next((words for words in ("not uploaded", "is not stored", "bytes are missing") if words in said), "")
        if swept and self._ledger.sweeps:
            self._seen.refused[f"{refusal.status}, swept before its commit ({swept})"] += 1
        else:
            self._seen.problems.append(f"refused: {refusal}")


class CommandWriter:
    """Runs one command after the other on the home that is served."""

    def __init__(self, folder: Path, processes: Nursery, ledger: Ledger, seen: Seen, *, seed: str) -> None:
        self._folder, self._processes, self._ledger, self._seen = folder, processes, ledger, seen
        self._random = random.Random(seed)
        self._number = 0
        self._published: list[tuple[str, str, Files]] = []

    def write_until(self, stopped: threading.Event) -> None:
        turns = (self._publish, self._pull, self._list, self._user, self._promote, self._publish, self._sweep)
        while not stopped.is_set():
            for turn in turns:
                if not stopped.is_set():
                    turn()

    def _run(self, *words: object) -> str | None:
        """What a command that succeeded has printed."""
        process = self._processes.start(*words)
        code = process.wait(COMMAND_SECONDS)
        self._seen.commands[f"{words[0]}"] += 1
        if code != 0:
            self._seen.problems.append(f"mixhub {' '.join(map(str, words))}: {code} {_words_of(process)}")
            return None
        return process.out.read_text()

    def _publish(self) -> None:
        self._number += 1
        folder = self._folder / f"adapter-{self._number}"
        write_adapter(folder, seed=self._random.randrange(2**32))
        files = {path.name: sha256(path.read_bytes()) for path in folder.iterdir()}
        with self._ledger.open():
            self._ledger.tried_trees.add(frozenset(files.items()))
        repo = f"team/p{self._number % 6}"
        out = self._run("publish", folder, repo, "--json")
        shutil.rmtree(folder)
        if out is not None:
            done = json.loads(out)
            self._ledger.acknowledged("publish", Commit(repo, done["commit"], files))
            self._ledger.acknowledged("version", Named(repo, done["version"], done["commit"]))
            self._published.append((repo, done["version"], files))

    def _pull(self) -> None:
        if not self._published:
            return
        repo, version, files = self._random.choice(self._published)
        target = self._folder / f"pulled-{self._number}"
        if self._run("pull", f"{repo}@{version}", target, "--json") is not None:
            got = {path.name: sha256(path.read_bytes()) for path in target.iterdir()}
            if got != files:
                self._seen.problems.append(f"pull of {repo}@{version} gave other bytes")
        shutil.rmtree(target, ignore_errors=True)

    def _list(self) -> None:
        wanted = {repo for repo, _, _ in self._published}
        out = self._run("ls", "--namespace", "team", "--json")
        if out is not None and not wanted <= {one["address"] for one in json.loads(out)}:
            self._seen.problems.append("ls leaves out what was published")

    def _user(self) -> None:
        self._number += 1
        name = f"user{self._number}"
        if self._run("user", "create", name) is not None:
            self._ledger.acknowledged("user", name)

    def _promote(self) -> None:
        if not self._published:
            return
        repo, version, _ = self._random.choice(self._published)
        out = self._run("promote", f"{repo}@{version}", "prod", "--json")
        if out is not None:
            move = json.loads(out)
            self._ledger.acknowledged("promote", Move(repo, "prod", move["seq"], move["commit_id"]))

    def _sweep(self) -> None:
        with self._ledger.sweep():
            self._run(*SWEEP)


def write_adapter(folder: Path, *, seed: int) -> None:
    """A LoRA of some kilobytes with its config."""
    folder.mkdir(parents=True)
    made = np.random.default_rng(seed)
    tensors = {
        f"base_model.model.layers.{layer}.q_proj.lora_{factor}.weight": made.standard_normal(shape, dtype="float32")
        for layer in range(2)
        for factor, shape in (("A", (2, 64)), ("B", (64, 2)))
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "org/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def _words_of(process: Process) -> str:
    if process.code == KILLED:
        return "killed"
    return process.err.read_text()[-1500:]
