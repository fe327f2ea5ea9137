"""Processes of `mixhub` as a benchmark has them: a server that is killed and begins again, and commands beside it."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KILLED = -9


@dataclass
class Process:
    """`code` is known once `ended` is set."""

    key: str
    out: Path
    err: Path
    ended: threading.Event = field(default_factory=threading.Event)
    code: int | None = None
    ended_at: float = 0.0
    """By time.monotonic(), some milliseconds late."""

    def wait(self, seconds: float) -> int | None:
        """Its exit code, or None where it runs still."""
        self.ended.wait(seconds)
        return self.code


class Nursery:
    """Starts and kills processes of its own only. Their output is kept in `folder`."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self._numbers = itertools.count(1)
        self._running: dict[str, Process] = {}
        self._lock = threading.Lock()
        self._script = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py"))], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1", "MIXHUB_HOME": str(home)},
        )  # fmt: skip
        assert self._script.stdout is not None
        if "ready" not in self._script.stdout.readline():
            raise RuntimeError("the nursery did not start")
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def start(self, *words: object, deadly: dict[str, str] | None = None) -> Process:
        key = f"{next(self._numbers):05d}-{words[0]}"
        process = Process(key, self.folder / f"{key}.out", self.folder / f"{key}.err")
        with self._lock:
            self._running[key] = process
        self._order(
            start=key, words=[str(word) for word in words], env={"MIXHUB_HOME": str(self.home)},
            out=str(process.out), err=str(process.err), deadly=deadly,
        )  # fmt: skip
        return process

    def kill(self, process: Process) -> None:
        """kill -9, and wait until it is gone."""
        self._order(kill=process.key)
        if process.wait(30) is None:
            raise RuntimeError(f"{process.key} cannot be killed")

    def close(self) -> None:
        assert self._script.stdin is not None and self._script.stdout is not None
        self._script.stdin.close()
        self._script.wait(30)
        self._listener.join(30)
        self._script.stdout.close()

    def _order(self, **order: Any) -> None:
        assert self._script.stdin is not None
        with self._lock:
            self._script.stdin.write(json.dumps(order) + "\n")
            self._script.stdin.flush()

    def _listen(self) -> None:
        assert self._script.stdout is not None
        for line in self._script.stdout:
            event = json.loads(line)
            with self._lock:
                process = self._running.pop(event["ended"])
            process.code = event["code"]
            process.ended_at = time.monotonic()
            process.ended.set()


@contextmanager
def nursery(folder: Path, home: Path) -> Iterator[Nursery]:
    running = Nursery(folder, home)
    try:
        yield running
    finally:
        running.close()


class Server:
    """One home at one address, whichever process serves it. Clients write while `writable` is set; a kill ends that."""

    def __init__(self, processes: Nursery) -> None:
        self._processes = processes
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.writable = threading.Event()
        self.token = ""

    def start(self, deadly: dict[str, str] | None = None) -> float:
        """Returns after how many seconds it answered."""
        began = time.monotonic()
        self.process = self._processes.start("serve", "--port", self._port, deadly=deadly)
        while True:
            if self.process.ended.is_set() or time.monotonic() - began > 60:
                raise RuntimeError(f"the server did not start: {self.process.err.read_text()[-2000:]}")
            try:
                urllib.request.urlopen(f"{self.url}/healthz", timeout=5).close()
                break
            except OSError:
                time.sleep(0.01)
        self.token = self.token or self.process.out.read_text().strip()
        return time.monotonic() - began

    def kill(self) -> None:
        self.writable.clear()
        self._processes.kill(self.process)

    def died_at(self) -> float:
        """By time.monotonic(), never later than it was."""
        return self.process.ended_at - 0.01
