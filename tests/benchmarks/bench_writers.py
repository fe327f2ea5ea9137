"""Many clients that commit to one server at once: how long each waits, with the writers' queue and without it.

    python tests/benchmarks/bench_writers.py [--clients 64] [--commits 10] [--rounds 3] [--out DIR]

Each client commits small files to a repo of its own over HTTP, one after the other, so the database's one writer is
what they wait for. Beside it another process, as a command would, writes a row every fifth of a second. `without` is
the same server with SQLite's own waiting: every writer polls. Both are measured in turn, in each round, on a fresh
home; a refused commit (503) is counted and not repeated. Seconds are of all rounds together, the spread is that of the
rounds.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAYS = ("without", "with")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--commits", type=int, default=10, help="of each client")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a folder for writers.md")
    chosen = parser.parse_args()
    about = {**machine(), "clients": chosen.clients, "commits of each": chosen.commits, "rounds": chosen.rounds}
    measured: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(chosen.rounds):
        for way in WAYS:
            measured[way].append(measure(way, chosen.clients, chosen.commits))
            print(way, summary([measured[way][-1]]), file=sys.stderr, flush=True)
    table = as_table(about, {way: summary(rounds) for way, rounds in measured.items()})
    print(table)
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / "writers.md").write_text(table, encoding="utf-8")


def measure(way: str, clients: int, commits: int) -> dict[str, Any]:
    """One load on a fresh home: seconds of every commit and of every write of the other process, and the refusals."""
    scratch = Path(tempfile.mkdtemp(prefix="mixhub-bench-"))
    try:
        with served(way, scratch / "home") as (port, token):
            client = Client(port, token)
            for i in range(clients):
                client.send("/api/repos/create", {"name": f"r{i}", "type": "model"})
            other = subprocess.Popen(
                [sys.executable, __file__, "other", str(scratch / "home")], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert other.stdout is not None
            other.stdout.readline()
            with ThreadPoolExecutor(clients) as pool:
                began = time.perf_counter()
                each = list(pool.map(lambda i: commit_often(Client(port, token), i, commits), range(clients)))
                took = time.perf_counter() - began
            beside = json.loads(other.communicate("stop\n", timeout=120)[0])
            client = Client(port, token)  # the server may have closed the other one meanwhile
            kept = sum(client.count_commits(f"admin/r{i}") for i in range(clients)) - clients  # each began with one
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    answers = [answer for one in each for answer in one]
    good = [seconds for status, seconds in answers if status == 200]
    assert kept == len(good), f"{len(good)} commits were acknowledged and {kept} are there"
    return {"commits": good, "refused": len(answers) - len(good), "took": took, "beside": beside}


class Client:
    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        self._headers = {"authorization": f"Bearer {token}"}

    def send(self, path: str, body: object, *, content_type: str = "application/json") -> int:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request("POST", path, content, {**self._headers, "content-type": content_type})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def count_commits(self, repo: str) -> int:
        self._connection.request("GET", f"/api/models/{repo}/commits/main?limit=1000", headers=self._headers)
        return len(json.load(self._connection.getresponse()))


def commit_often(client: Client, number: int, count: int) -> list[tuple[int, float]]:
    """Status and seconds of each commit."""
    found = []
    for i in range(count):
        content = base64.b64encode(f"{number} {i}".encode()).decode()
        lines = [
            {"key": "header", "value": {"summary": f"commit {i}"}},
            {"key": "file", "value": {"path": f"{i}.txt", "content": content, "encoding": "base64"}},
        ]
        body = "\n".join(map(json.dumps, lines)).encode()
        began = time.perf_counter()
        status = client.send(f"/api/models/admin/r{number}/commit/main", body, content_type="application/x-ndjson")
        found.append((status, time.perf_counter() - began))
    return found


@contextmanager
def served(way: str, home: Path) -> Iterator[tuple[int, str]]:
    """A server as a process of its own: its port and the administrator's token."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, __file__, way, "serve", "--port", str(port)], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, env={**os.environ, "MIXHUB_HOME": str(home)},
    )  # fmt: skip
    try:
        assert server.stdout is not None
        token = server.stdout.readline().strip()
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").close()
                break
            except OSError:
                time.sleep(0.1)
        yield port, token
    finally:
        server.terminate()
        server.wait(60)


def serve(way: str) -> None:
    """`mixhub`, where asked without turns: begin at once, and wait as SQLite waits."""
    from hub.cli.main import run

    if way == "without":
        give_no_turns()
    run()


def give_no_turns() -> None:
    from storage.sqlite_connection import SqliteConnection

    @contextmanager
    def at_once(_self: SqliteConnection, _seconds: float) -> Iterator[None]:
        yield

    SqliteConnection.turn = at_once  # type: ignore[method-assign]


def write_beside(home: str) -> None:
    """As a command does it, again and again, until the input ends: seconds of each write."""
    import threading

    from hub.actions.accounts import create_user
    from hub.home import open_home
    from hub.settings import Settings

    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
    found = []
    with open_home(Settings(home=Path(home), database_url="", blobs_url="")) as opened:
        create_user(opened, "beside")
        print("ready", flush=True)
        while not ended.wait(0.2):
            began = time.perf_counter()
            create_user(opened, f"beside{len(found)}")
            found.append(time.perf_counter() - began)
    print(json.dumps(found))


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """p50, p99 and most of all rounds, each with the least and the most of the single rounds."""
    writes = [(len(one["commits"]) + len(one["beside"])) / one["took"] for one in rounds]
    found: dict[str, Any] = {"writes a second, of both": spread(writes)}
    for name in ("commits", "beside"):
        for label, part in (("p50", 0.5), ("p99", 0.99), ("most", 1.0)):
            of_all = quantile([seconds for one in rounds for seconds in one[name]], part)
            single = [quantile(one[name], part) for one in rounds]
            found[f"{name}, {label}"] = f"{of_all:.2f} ({min(single):.2f} to {max(single):.2f})"
    found["refused"] = sum(one["refused"] for one in rounds)
    found["writes beside"] = sum(len(one["beside"]) for one in rounds)
    return found


def quantile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def machine() -> dict[str, object]:
    named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "machine": named[0].partition(":")[2].strip() if named else platform.machine(), "cores": os.cpu_count(),
        "load at the start": os.getloadavg()[0], "python": platform.python_version(), "commit": commit,
    }  # fmt: skip


def as_table(about: dict[str, object], found: dict[str, dict[str, Any]]) -> str:
    told = ", ".join(f"{name} {value}" for name, value in about.items())
    lines = ["# Many writers at one server", "", f"Made by `bench_writers.py`: {told}.", ""]
    lines += ["Seconds of a commit, and of a row written by another process, over all rounds (of single rounds)."]
    lines += ["", "| | without the queue | with it |", "|---|---:|---:|"]
    lines += [f"| {name} | {found['without'][name]} | {found['with'][name]} |" for name in found["with"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    word = sys.argv[1] if sys.argv[1:] else ""
    if word == "other":
        write_beside(sys.argv[2])
    elif word in WAYS:
        del sys.argv[1]
        serve(word)
    else:
        main()
