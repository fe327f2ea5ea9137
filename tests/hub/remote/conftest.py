"""A real server process, and the command line on a home of its own or on that server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest


@dataclass(frozen=True)
class Served:
    url: str
    token: str
    """Of the administrator."""
    home: Path


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`mixhub serve` as its own process; its tests keep to namespaces of their own."""
    home = tmp_path_factory.mktemp("served") / "home"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MIXHUB_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "hub.cli.main", "serve", "--port", str(port)], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env={**kept, "MIXHUB_HOME": str(home), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert server.stdout is not None
    token = server.stdout.readline().strip()
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=1).close()
            break
        except OSError:
            assert time.monotonic() < deadline and server.poll() is None, "the server does not answer"
            time.sleep(0.05)
    try:
        yield Served(url, token, home)
    finally:
        server.terminate()
        server.communicate(timeout=20)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """huggingface_hub may talk to a server, and knows no token."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_XET_CACHE", str(tmp_path / "xet"))
    disable_progress_bars()  # the command line does so before huggingface_hub is imported


@pytest.fixture
def on_server(served: Served, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Served:
    """Commands and `Hub()` act on the server, as its administrator."""
    request.getfixturevalue("home_folder")
    request.getfixturevalue("online")
    monkeypatch.setenv("MIXHUB_URL", served.url)
    monkeypatch.setenv("MIXHUB_TOKEN", served.token)
    return served


@pytest.fixture(params=["home", "server"])
def place(request: pytest.FixtureRequest) -> str:
    """Where the test happens: on this machine's home, or on a server through MIXHUB_URL."""
    request.getfixturevalue("on_server" if request.param == "server" else "home_folder")
    return str(request.param)


@pytest.fixture
def published(
    mixhub: Callable[..., Any], write_lora: Callable[..., Path], other_base: Callable[..., Path], tmp_path: Path
) -> Callable[[str], dict[str, Path]]:
    """`published(ns)` publishes a base model of its own and two adapters of it, by the command line: address -> folder.
    Were two namespaces to publish one base, it would have two names."""

    def publish(ns: str) -> dict[str, Path]:
        folders = {f"{ns}/base": other_base(tmp_path / f"{ns}-base", seed=crc32(ns.encode()))}
        for seed, name in enumerate("ab", start=1):
            folders[f"{ns}/{name}"] = write_lora(
                f"{ns}-{name}",
                seed=seed,
                scale=0.2,
                base_model_name_or_path=f"{ns}/base",
                card="---\nlicense: mit\n---\n",
            )
        for address, folder in folders.items():
            ran = mixhub("publish", folder, address, "--json")
            assert ran.code == 0, ran.err
        return folders

    return publish
