"""What `mixhub serve` loads before it answers, and what the default search does: nothing heavy that is not used."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "nevergrad", "peft", "safetensors", "huggingface_hub", "alembic"}


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    return found


def test_a_server_on_a_home_that_is_set_up_answers_without_having_loaded_anything_heavy(
    home_folder: Path, tmp_path: Path, port: int
) -> None:
    """The interpreter itself lists every import of the process."""
    listed = tmp_path / "imports"
    with listed.open("w") as stderr:
        server = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "hub.cli.main", "serve", "--port", str(port)],
            env={**os.environ, "MIXHUB_HOME": str(home_folder)}, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/models", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, listed.read_text()[-2000:]
                time.sleep(0.05)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    imported = set(re.findall(r"^import time:.*\|\s+(\w+)", listed.read_text(), re.MULTILINE))
    assert {"fastapi", "uvicorn", "sqlalchemy"} <= imported
    assert imported & HEAVY == set()


FITTED = """
import sys
import numpy as np
from compose import search

class Scorer:
    adapter_names, token_counts, method, method_params = ("a", "b"), np.ones(8, dtype=int), "exact", {}

    def example_losses(self, weights):
        return (1 - weights @ np.eye(2, 8)) ** 2 + 0.1

print(search(["a", "b"], Scorer(), budget=24).optimizer)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_the_default_search_does_not_load_nevergrad_nor_what_nevergrad_loads() -> None:
    ran = subprocess.run([sys.executable, "-c", FITTED], capture_output=True, text=True, check=True)
    optimizer, loaded = ran.stdout.splitlines()
    assert optimizer == "fit"
    assert (
        set(loaded.split()) & {"nevergrad", "bayes_opt", "cma", "pandas", "torch", "transformers", "sqlalchemy"}
        == set()
    )
