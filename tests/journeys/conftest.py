"""Real processes: a server that forks publishers, and the console command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def publishers() -> Iterator[Callable[..., list[int]]]:
    """`publishers(home=..., folder=..., addresses=[...], step=..., when=...)` -> exit statuses; -9 is killed."""
    script = Path(__file__).with_name("fork_server.py")
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        wire_in, wire_out = server.stdin, server.stdout

        def ask(**job: Any) -> list[int]:
            wire_in.write(json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in job.items()}) + "\n")
            wire_in.flush()
            answer: list[int] = json.loads(wire_out.readline())
            return answer

        yield ask
        wire_in.close()


@pytest.fixture
def start_mixhub(home_folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the console command on `home_folder` as a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "hub.cli.main", *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home_folder.parent,
            env={**os.environ, "MIXHUB_HOME": str(home_folder)},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
