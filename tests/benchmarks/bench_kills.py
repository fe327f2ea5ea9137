"""kill -9 of a server, again and again, while clients and commands write: is what was acknowledged there afterwards?

    python tests/benchmarks/bench_kills.py [--kills 200] [--seed 1] [--first 0] [--minutes 60] [--out DIR]

One server on loopback and one local home with SQLite. Some clients write over HTTP (commits, LFS and Xet
uploads, aliases, deletions), and commands (`publish`, `pull`, `ls`, `user create`, `promote`, `db gc`) run beside it on
the same home, also while it is down. The kills take turns among what they fall into the middle of (`KINDS`), half of
them at a chosen step of the work, half at a random time. A kill in the middle of `gc` ends the command and the server.

Every write that was acknowledged, by a 2xx or the exit code 0, is written down outside. After each kill `db check
--deep` must find no problem, which digests each blob, and each commit, move, name, deletion and account must be in the
database with the right digests. After the restart what is new since the last kill, and some of the older, is read over
HTTP and compared; at the end all is. `db gc` spares no age here, so bytes that no commit holds yet are only looked for
where no sweep began since.

`--seed 1 --first 120 --kills 80` does the kills 120 to 199 of seed 1 on a new home.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kills.ledger import Commit, Ledger, Upload, halves, held, lost
from kills.processes import KILLED, Server, nursery
from kills.wire import Refused, Wire, sha256
from kills.writers import SWEEP, CommandWriter, HttpWriter, Seen

from hub.actions import database
from hub.home import opened_database
from hub.settings import Settings
from storage.database import read

KINDS = ("commit", "lfs", "xet", "promote", "delete", "gc")
STEPS = {
    "commit": ("a blob gets its name", "a blob is recorded", "a revision is made", "a transaction ends"),
    "lfs": ("an LFS file is stored", "a blob gets its name", "a blob is recorded", "a transaction ends"),
    "xet": ("a xorb has arrived", "a file is rebuilt", "a blob gets its name", "a transaction ends"),
    "promote": ("an alias moves", "a transaction ends"),
    "delete": ("a version goes", "a repo goes", "a transaction ends"),
    "gc": ("a blob goes", "a transaction ends"),
}
STEP_SECONDS = 15
"""For a step to be reached; then the kill comes anyway."""
OLDER = 8
"""Commits of before the last kill that are read again."""


@dataclass(frozen=True)
class Plan:
    """Of one kill, which seed and number decide. `step` empty: after `delay` seconds."""

    number: int
    kind: str
    step: str
    when: str
    delay: float
    peace: float
    """Seconds of writing before."""

    def __str__(self) -> str:
        where = f"{self.when} {self.step!r}" if self.step else f"after {self.delay:.2f} s"
        return f"kill {self.number} in {self.kind} {where}"


def plan_of(seed: int, number: int) -> Plan:
    chance = random.Random(f"{seed} kill {number}")
    kind, at_step = KINDS[number % len(KINDS)], number // len(KINDS) % 2 == 0
    step, when = chance.choice(STEPS[kind]), chance.choice(("before", "after"))
    return Plan(number, kind, step if at_step else "", when, chance.uniform(0, 0.5), chance.uniform(0.2, 1.2))


@dataclass
class Found:
    kills: Counter[str] = field(default_factory=Counter)
    """"commit at a step", "commit at a time" ..."""
    in_the_middle: Counter[str] = field(default_factory=Counter)
    """Of the kills, those that cut their target off."""
    lost: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    checks: int = 0
    read: int = 0
    """Files that were read over HTTP and compared."""


class Trial:
    def __init__(self, chosen: argparse.Namespace, scratch: Path) -> None:
        self._chosen, self._scratch = chosen, scratch
        self._settings = Settings(home=scratch / "home", database_url="", blobs_url="", url="")
        self._ledger, self._seen, self._found = Ledger(), Seen(), Found()
        self._arm = scratch / "arm"
        self._read_up_to = 0
        self._told: set[str] = set()

    def run(self) -> dict[str, Any]:
        about, began, done = machine(), time.monotonic(), 0
        (self._scratch / "output").mkdir()
        with nursery(self._scratch / "output", self._settings.directory) as self._processes:
            self._server = Server(self._processes)
            self._start(self._plan(0))
            self._wire = Wire(self._server.url, self._server.token)
            stopped = threading.Event()
            threads = self._begin(stopped)
            try:
                while done < self._chosen.kills and time.monotonic() - began < 60 * self._chosen.minutes:
                    self._server.writable.set()
                    self._kill(self._plan(done))
                    self._start(self._plan(done + 1))
                    self._read_over_http(everything=False)
                    done += 1
            finally:
                stopped.set()
                for thread in threads:
                    thread.join(120)
            self._look_at_home("the end")
            self._read_over_http(everything=True)
            self._wire.close()
        return self._report(about, time.monotonic() - began)

    def _plan(self, done: int) -> Plan:
        return plan_of(self._chosen.seed, self._chosen.first + done)

    def _begin(self, stopped: threading.Event) -> list[threading.Thread]:
        seed, shared = self._chosen.seed, (self._server, self._ledger, self._seen)
        self._target = HttpWriter("target", *shared, seed=f"{seed} target")
        clients = [HttpWriter(f"w{i}", *shared, seed=f"{seed} {i}") for i in range(self._chosen.clients)]
        folder = self._scratch / "adapters"
        commands = CommandWriter(folder, self._processes, self._ledger, self._seen, seed=f"{seed} commands")
        threads = [threading.Thread(target=self._guard, args=(w, stopped)) for w in (*clients, commands)]
        for thread in threads:
            thread.start()
        return threads

    def _guard(self, writer: HttpWriter | CommandWriter, stopped: threading.Event) -> None:
        try:
            writer.write_until(stopped)
        except Exception as error:
            self._seen.problems.append(f"a writer of the benchmark ended: {error!r}")

    def _start(self, plan: Plan) -> None:
        """The server, which can die at the step that the plan wants."""
        self._found.starts.append(self._server.start(None if plan.kind == "gc" else self._deadly(plan)))

    def _deadly(self, plan: Plan) -> dict[str, str] | None:
        return {"arm": str(self._arm), "step": plan.step, "when": plan.when} if plan.step else None

    def _kill(self, plan: Plan) -> None:
        """One kill, and a look at what it left."""
        time.sleep(plan.peace)
        cut = self._kill_in_gc(plan) if plan.kind == "gc" else self._kill_in_request(plan)
        self._found.kills[f"{plan.kind}, {'at a step' if plan.step else 'at a time'}"] += 1
        self._found.in_the_middle[plan.kind] += cut
        self._look_at_home(str(plan))

    def _kill_in_request(self, plan: Plan) -> bool:
        """Whether it cut a request of the plan's kind off."""
        cut: list[bool] = []

        def send() -> None:
            while not cut:
                began = time.monotonic()
                if not self._target.write(plan.kind):
                    cut.append(self._server.process.wait(STEP_SECONDS) is not None and began < self._server.died_at())
                elif self._server.process.ended.is_set():
                    cut.append(False)

        sender = threading.Thread(target=send)
        self._arm.touch()
        sender.start()
        if plan.step:
            self._server.process.wait(STEP_SECONDS)
        else:
            time.sleep(plan.delay)
        self._server.kill()
        sender.join(90)
        self._arm.unlink()
        return bool(cut and cut[0])

    def _kill_in_gc(self, plan: Plan) -> bool:
        """Whether the sweep was cut off. It and the server are killed together."""
        self._arm.touch()
        with self._ledger.sweep():
            sweep = self._processes.start(*SWEEP, deadly=self._deadly(plan))
            deadline = time.monotonic() + STEP_SECONDS
            while plan.step and sweep.wait(60) == 0 and time.monotonic() < deadline:  # there was nothing to sweep
                self._target.write("lfs")
                sweep = self._processes.start(*SWEEP, deadly=self._deadly(plan))
            if not plan.step:
                time.sleep(plan.delay)
            self._processes.kill(sweep)
        self._server.kill()
        self._arm.unlink()
        return sweep.code == KILLED

    def _look_at_home(self, after: str) -> None:
        """All that was acknowledged is in the database, and all blobs have their digests."""
        must = self._ledger.snapshot()
        problems = database.check(self._settings, deep=True).problems
        with opened_database(self._settings) as engine, read(engine) as session:
            found = held(session)
        self._tell(self._found.problems, after, (*problems, *halves(self._ledger, found)))
        self._tell(self._found.lost, after, lost(must, self._ledger, found))
        self._found.checks += 1

    def _tell(self, place: list[str], after: str, sentences: Iterable[str]) -> None:
        """Once: what is wrong is so after the next kill too."""
        new = set(sentences) - self._told
        self._told |= new
        place += [f"{after}: {sentence}" for sentence in sorted(new)]

    def _read_over_http(self, *, everything: bool) -> None:
        """Byte for byte, as clients read: what is new since the last time, and some of the older."""
        must = self._ledger.snapshot()
        new, old = must.commits[self._read_up_to :], must.commits[: self._read_up_to]
        self._read_up_to = len(must.commits)
        chance = random.Random(len(must.commits))
        for commit in must.commits if everything else (*new, *chance.sample(old, min(OLDER, len(old)))):
            self._read_commit(commit)
        for upload in must.uploads[-20:]:
            self._ask_for(upload)

    def _read_commit(self, commit: Commit) -> None:
        for path, digest in commit.files.items():
            try:
                content = self._wire.file(commit.repo, commit.commit_id, path)
            except Refused as refusal:
                if not self._ledger.may_be_gone(commit.repo):
                    self._found.lost.append(f"{path} of {commit.repo}: {refusal}")
                continue
            self._found.read += 1
            if sha256(content) != digest:
                self._found.lost.append(f"{path} of {commit.repo}@{commit.commit_id} has other bytes")

    def _ask_for(self, upload: Upload) -> None:
        if self._ledger.may_be_gone(upload.repo) or upload.sweeps != self._ledger.sweeps:
            return
        wanted = self._wire.wanted(upload.repo, upload.sha256, upload.size)
        if wanted and upload.sweeps == self._ledger.sweeps:
            self._found.lost.append(f"upload {upload.sha256} to {upload.repo}")

    def _report(self, about: dict[str, object], seconds: float) -> dict[str, Any]:
        found, seen = self._found, self._seen
        starts = sorted(found.starts)
        return {
            "about": {**about, "seed": self._chosen.seed, "first": self._chosen.first, "clients": self._chosen.clients},
            "kills": sum(found.kills.values()),
            "kills_by_kind": dict(sorted(found.kills.items())),
            "in_the_middle": dict(sorted(found.in_the_middle.items())),
            "acknowledged": sum(self._ledger.counted.values()),
            "acknowledged_by_kind": dict(sorted(self._ledger.counted.items())),
            "requests_cut": dict(sorted(seen.cut.items())),
            "commands": dict(sorted(seen.commands.items())),
            "lost": found.lost,
            "problems": [*found.problems, *seen.problems],
            "deep_checks": found.checks,
            "files_read_over_http": found.read,
            "refused": dict(seen.refused),
            "seconds": round(seconds, 1),
            "seconds_of_a_start": {"median": round(statistics.median(starts), 2), "most": round(starts[-1], 2)},
        }


def machine() -> dict[str, object]:
    named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "machine": named[0].partition(":")[2].strip() if named else platform.machine(), "cores": os.cpu_count(),
        "load at the start": round(os.getloadavg()[0], 1), "python": platform.python_version(), "commit": commit,
    }  # fmt: skip


def as_text(found: dict[str, Any]) -> str:
    about = ", ".join(f"{name} {value}" for name, value in found["about"].items())

    def listed(of: str) -> str:
        return ", ".join(f"{name} {count}" for name, count in found[of].items()) or "none"

    lines = ["# Kills of a server that is written to", "", f"Made by `bench_kills.py`: {about}.", ""]
    lines += ["| | | |", "|---|---:|---|"]
    lines.append(f"| kills | {found['kills']} | {listed('kills_by_kind')} |")
    lines.append(f"| of them, their target was cut off | {sum(found['in_the_middle'].values())} | "
                 f"{listed('in_the_middle')} |")  # fmt: skip
    lines.append(f"| acknowledged writes | {found['acknowledged']} | {listed('acknowledged_by_kind')} |")
    lines.append(f"| **lost** | **{len(found['lost'])}** | |")
    lines.append(f"| **problems** | **{len(found['problems'])}** | of {found['deep_checks']} deep checks, of requests "
                 "and of commands |")  # fmt: skip
    lines.append(f"| files read over HTTP and compared | {found['files_read_over_http']} | |")
    lines.append(f"| requests without an answer | {sum(found['requests_cut'].values())} | {listed('requests_cut')} |")
    lines.append(f"| commands beside the server | {sum(found['commands'].values())} | {listed('commands')} |")
    lines.append(f"| refused, as is right | {sum(found['refused'].values())} | {listed('refused')} |")
    start = found["seconds_of_a_start"]
    lines.append(f"| seconds | {found['seconds']} | of a start: median {start['median']}, most {start['most']} |")
    for what in ("lost", "problems"):
        if found[what]:
            lines += ["", f"The first {what}:", "", *(f"- {' '.join(one.split())[:600]}" for one in found[what][:20])]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, help="a folder for kills.json and kills.md")
    chosen = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="mixhub-kills-"))
    try:
        found = Trial(chosen, scratch).run()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(as_text(found))
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / "kills.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        (chosen.out / "kills.md").write_text(as_text(found), encoding="utf-8")
    sys.exit(1 if found["lost"] or found["problems"] else 0)


if __name__ == "__main__":
    main()
