"""Commands beside a server whose locks on the database are gone, and a server whose database log is."""

from __future__ import annotations

import re
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hub.cli.commands import COMMANDS

CARELESS = Path(__file__).with_name("careless_server.py")
NOT_BESIDE = {
    "serve": "is the server", "login": "asks a server", "demo": "has its own home", "reproduce": "has none",
    "restore": "makes a new home",
}  # fmt: skip


def commands(write_lora: Callable[..., Path], base: Path, examples: Path, folder: Path) -> list[list[object]]:
    """Every command that acts on a home."""
    a, b = (write_lora(name, seed=seed, scale=0.2) for seed, name in enumerate("ab", start=1))
    return [
        ["publish", a, "team/a", "--base", base], ["publish", b, "team/b", "--base", base],
        ["publish", b, "team/a", "--base", base], ["ls"], ["show", "team/a"], ["pull", "team/a", folder / "pulled"],
        ["compose", "team/a@v1=0.5", "team/b=-0.5", "--as", "team/mix"], ["verify", "team/mix"],
        ["search", "team/a", "team/b", "--examples", examples, "--budget", "4", "--as", "team/found"], ["report"],
        ["bench", "team/a", "team/b", "--examples", examples, "--population", "2", "--repeats", "1"],
        ["export", "team/mix", "--to", folder / "exported"], ["promote", "team/a@v1", "prod"],
        ["promote", "team/a@v2", "prod"], ["rollback", "team/a", "prod"], ["history", "team/a"],
        ["protect", "team/a", "prod"], ["delete", "team/mix", "--yes"], ["base", "add", base, "--known-as", "x/y"],
        ["base", "ls"], ["db", "upgrade"], ["db", "check", "--deep"], ["db", "gc"], ["backup", folder / "backup"],
        ["user", "create", "ann"],
        ["org", "create", "club", "--owner", "ann"], ["user", "create", "bob"],
        ["org", "add", "club", "--user", "bob", "--role", "write"], ["org", "remove", "club", "--user", "bob"],
        ["user", "adopt", "team", "--user", "ann"], ["token", "create", "--user", "ann", "--role", "read"],
        ["token", "list"], ["token", "revoke", "2"],
    ]  # fmt: skip


def test_no_command_deletes_the_log_of_a_server_and_nothing_acknowledged_is_lost(
    start_server: Callable[..., Any], publishers: Callable[..., list[int]], write_lora: Any, tiny_t5: Path,
    few_shot: Path, tmp_path: Path,
) -> None:  # fmt: skip
    every = commands(write_lora, tiny_t5, few_shot, tmp_path)
    assert {words[0] for words in every} | NOT_BESIDE.keys() == {name for held in COMMANDS.values() for name in held}
    server = start_server(program=[CARELESS])
    log = server.home / "mixhub.sqlite-wal"
    before = log.stat().st_ino
    acknowledged = []
    for number, words in enumerate(every):
        server.process.send_signal(signal.SIGUSR1)
        assert publishers(home=server.home, commands=[[str(word) for word in words]]) == [0], words
        assert log.exists() and log.stat().st_ino == before, words
        assert create_repo(server, f"repo{number}").status_code == 200, words
        acknowledged.append(f"admin/repo{number}")
    server.end(signal.SIGKILL)
    server = start_server(after=server)
    found = httpx2.get(f"{server.url}/api/models?author=admin&limit=1000").json()
    assert sorted(acknowledged) == sorted(one["id"] for one in found)
    server.end()
    assert not log.exists()  # the server was the last


def test_a_server_whose_log_was_deleted_says_so_and_ends_and_starts_again(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    server = start_server(program=[CARELESS])
    acknowledged = [f"admin/repo{number}" for number in range(5) if create_repo(server, f"repo{number}").is_success]
    server.process.send_signal(signal.SIGUSR1)
    time.sleep(0.1)
    other = sqlite3.connect(server.home / "mixhub.sqlite")  # of another program, which closes as the last user
    other.execute("SELECT count(*) FROM repo").fetchone()
    other.close()
    assert not (server.home / "mixhub.sqlite-wal").exists()
    with pytest.raises(httpx2.TransportError):
        create_repo(server, "never")
    assert server.process.wait(30) == 1
    said = (tmp_path / "server.log").read_text()
    assert len(re.findall("^mixhub serve: FATAL: .*mixhub.sqlite-wal was deleted.*$", said, re.MULTILINE)) == 1
    assert "Traceback" not in said
    server = start_server(after=server)
    found = httpx2.get(f"{server.url}/api/models?author=admin").json()
    assert sorted(one["id"] for one in found) == acknowledged
    assert create_repo(server, "next").status_code == 200


def create_repo(server: Any, name: str) -> httpx2.Response:
    return httpx2.post(
        f"{server.url}/api/repos/create", headers={"authorization": f"Bearer {server.token}"},
        json={"name": name, "type": "model"}, timeout=60,
    )  # fmt: skip
