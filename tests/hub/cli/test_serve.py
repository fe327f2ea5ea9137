"""`mixhub serve` as a process of its own, and the commands for accounts and tokens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hub import token_format


def start(home: Path, port: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "MIXHUB_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "hub.cli.main", "serve", "--port", str(port)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(url: str, *, seconds: float = 120) -> float:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        try:
            if httpx2.get(f"{url}/healthz").status_code == 200:
                return time.monotonic() - began
        except httpx2.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server does not answer")


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    return found


def test_the_first_start_prints_the_administrator_s_token_and_the_next_does_not(tmp_path: Path, port: int) -> None:
    tokens = []
    for _ in range(2):
        server = start(tmp_path / "home", port)
        wait_for(f"http://127.0.0.1:{port}")
        if tokens:
            headers = {"authorization": f"Bearer {tokens[0]}"}
            assert httpx2.get(f"http://127.0.0.1:{port}/api/whoami-v2", headers=headers).json()["isAdmin"]
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=120)
        tokens += out.split()
        assert f"HF_ENDPOINT=http://127.0.0.1:{port}" in err and "Traceback" not in err
    assert len(tokens) == 1 and token_format.is_well_formed(tokens[0])


def test_accounts_and_tokens_from_the_command_line(mixhub: Callable[..., Any]) -> None:
    ran = mixhub
    assert ran("user", "create", "ann").code == 0
    assert ran("user", "create", "Ann").code == 1
    made = ran("token", "create", "--user", "ann", "--role", "write")
    assert token_format.is_well_formed(made.out.strip()) and made.out.count("\n") == 1
    assert ran("token", "create", "--user", "ann", "--role", "owner").code == 2
    assert ran("token", "create", "--user", "eve", "--role", "read").code == 1
    assert ran("org", "create", "team", "--owner", "ann").code == 0
    assert ran("user", "create", "bob").code == 0
    assert ran("org", "add", "team", "--user", "bob", "--role", "read").code == 0
    (listed,) = ran("token", "list", "--json").json
    assert (listed["account"], listed["role"], listed["state"]) == ("ann", "write", "valid")
    assert made.out.strip() not in str(listed)
    assert ran("token", "revoke", listed["id"]).code == 0
    assert ran("token", "list", "--json").json[0]["state"] == "revoked"
