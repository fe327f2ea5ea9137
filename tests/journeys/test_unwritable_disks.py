"""A full disk and a read-only mount, on a file system of their own: what is there is served, what comes is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from hub.actions.accounts import first_start
from hub.client import Hub
from hub.home import open_home
from hub.settings import Settings

pytestmark = pytest.mark.mount

PART = 300_000
"""Bytes of an LFS part."""
INTERRUPTED = 130
KILLED = """
import os, pathlib, sys
from hub.home import open_home
from hub.settings import Settings
with open_home(Settings(home=pathlib.Path(sys.argv[1]), database_url="", blobs_url="")):
    os._exit(0)
"""


@pytest.fixture
def home_folder(small_disk: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a home can be, on the small disk; MIXHUB_HOME names it."""
    folder = Path(small_disk.path) / "home"
    monkeypatch.setenv("MIXHUB_HOME", str(folder))
    return folder


@pytest.fixture
def published(home_folder: Path, write_lora: Callable[..., Path]) -> dict[str, bytes]:
    """The files of `team/a`, which the home holds beside `team/b`."""
    with Hub(settings=Settings(home=home_folder, database_url="", blobs_url="")) as hub:
        folder = write_lora("a")
        hub.publish(folder, "team/a")
        hub.publish(write_lora("b", seed=1), "team/b")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Client:
    """Asks as the administrator."""

    def __init__(self, server: Any) -> None:
        self.url, self.headers = server.url, {"authorization": f"Bearer {server.token}"}

    def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        address = path if path.startswith("http") else self.url + path
        return httpx2.request(method, address, **{"headers": self.headers, "timeout": 60, **options})

    def files_are(self, files: dict[str, bytes]) -> None:
        assert {one["id"] for one in self.ask("GET", "/api/models?author=team").json()} >= {"team/a", "team/b"}
        for name, content in files.items():
            assert self.ask("GET", f"/team/a/resolve/main/{name}").content == content

    def uploads(self) -> Iterator[tuple[str, httpx2.Response]]:
        """An upload in each way that there is; the way, and what the server says."""
        content = os.urandom(2 * PART)
        line = {"path": "x.txt", "content": base64.b64encode(content).decode(), "encoding": "base64"}
        body = "\n".join(json.dumps({"key": key, "value": value}) for key, value in (
            ("header", {"summary": "t"}), ("file", line)))  # fmt: skip
        yield "commit", self.ask("POST", "/api/models/team/a/commit/main", content=body)
        for transfers in (["basic"], ["basic", "multipart"]):
            content = os.urandom(2 * PART)
            asked = {
                "operation": "upload", "transfers": transfers,
                "objects": [{"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}],
            }  # fmt: skip
            batch = self.ask("POST", "/team/a.git/info/lfs/objects/batch", json=asked).json()
            (one,) = batch["objects"]
            upload = one["actions"]["upload"]
            part = upload.get("header", {}).get("00001")
            if part:
                yield "LFS part", self.ask("PUT", part, content=content[:PART], headers={})
            else:
                yield "LFS", self.ask("PUT", upload["href"], content=content, headers={})
        xet = self.ask("GET", "/api/models/team/a/xet-write-token/main").json()
        signed = {"authorization": f"Bearer {xet['accessToken']}"}
        xorb = f"{xet['casUrl']}/v1/xorbs/default/{'a' * 64}"
        yield "xorb", self.ask("POST", xorb, content=content, headers=signed)
        mix = {"into": "team/mix", "parts": [{"address": "team/a", "weight": 1}, {"address": "team/b", "weight": 1}]}
        yield "mix", self.ask("POST", "/api/v1/compositions", json={**mix, "allow_unbound": True})
        body = json.dumps({"message": "t"}) + "\n" + json.dumps({"key": "file", "value": line})
        yield "publication", self.ask("POST", "/api/v1/repos/team/a/publish", content=body)

    def refused(self, answer: httpx2.Response, home: Path) -> None:
        assert answer.status_code == 507, answer.text
        told = answer.json()
        assert told["kind"] == "CannotStore" and told["message"].count(".") == 1 and told["remedy"]
        assert answer.headers["x-error-message"]
        for place in (home, home.parent, Path.cwd()):
            assert str(place) not in answer.text + str(answer.headers)


@pytest.fixture
def server(
    home_folder: Path, published: dict[str, bytes], start_server: Callable[..., Any]
) -> Callable[[], tuple[Any, Client]]:
    """Start a server on the home, which was served before; the process, and a client that is its administrator."""
    assert published
    with open_home(Settings(home=home_folder, database_url="", blobs_url="")) as home:
        token = first_start(home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

    def start() -> tuple[Any, Client]:
        running = start_server(
            after=SimpleNamespace(home=home_folder, url=url, token=token), MIXHUB_MULTIPART_BYTES=PART
        )
        return running, Client(running)

    return start


def left_halves(home: Path) -> list[Path]:
    return [path for path in [*home.glob("blobs/incoming/*"), *home.glob("uploads/**/*")] if path.is_file()]


def sound(mixhub: Callable[..., Any]) -> None:
    checked = mixhub("db", "check", "--deep", "--json")
    assert checked.code == 0 and checked.json["problems"] == [] and checked.json["notes"] == []


def test_a_server_whose_disk_is_full_reads_refuses_starts_again_and_goes_on_when_there_is_room(
    small_disk: Any, home_folder: Path, published: dict[str, bytes], server: Callable[[], tuple[Any, Client]],
    mixhub: Callable[..., Any],
) -> None:  # fmt: skip
    running, client = server()
    assert client.ask("POST", "/api/repos/create", json={"name": "first"}).status_code == 200
    stored = {path.name for path in home_folder.glob("blobs/??/*")}
    small_disk.fill()
    for _way, answer in client.uploads():
        client.refused(answer, home_folder)
    client.files_are(published)
    running.end(signal.SIGKILL)  # leaves the log of the database, with the repo that was made
    running, client = server()
    client.files_are(published)
    assert client.ask("GET", "/api/models/admin/first").status_code == 200
    with httpx2.Client(headers=client.headers) as many, ThreadPoolExecutor(8) as threads:  # readers take turns
        answers = threads.map(lambda _: many.get(f"{client.url}/api/v1/adapters/team/a"), range(24))
        assert {answer.status_code for answer in answers} == {200}
    small_disk.fill()
    # a few rows may go where the log of the database has room
    made = (client.ask("POST", "/api/repos/create", json={"name": f"c{number}"}) for number in range(100))
    client.refused(next(answer for answer in made if answer.status_code != 200), home_folder)
    for way, answer in client.uploads():
        client.refused(answer, home_folder)
        assert left_halves(home_folder) == [], way
    assert {path.name for path in home_folder.glob("blobs/??/*")} == stored
    small_disk.free()
    taken = {way: answer.status_code for way, answer in client.uploads() if way != "xorb"}
    assert set(taken.values()) <= {200, 201}, taken
    assert running.end() == INTERRUPTED
    sound(mixhub)


def test_commands_on_a_full_disk(
    small_disk: Any, published: dict[str, bytes], mixhub: Callable[..., Any], tmp_path: Path,
    write_lora: Callable[..., Path], contents: Callable[[], dict[str, object]],
) -> None:  # fmt: skip
    before = contents()
    small_disk.fill()
    reads_and_refuses(mixhub, published, tmp_path, write_lora("c", seed=2))
    small_disk.free()
    assert contents() == before
    sound(mixhub)


def test_a_read_only_mount_is_read_by_commands_and_a_server_and_not_written(
    small_disk: Any, home_folder: Path, published: dict[str, bytes], server: Callable[[], tuple[Any, Client]],
    mixhub: Callable[..., Any], tmp_path: Path, write_lora: Callable[..., Path],
) -> None:  # fmt: skip
    small_disk.mount("ro")
    reads_and_refuses(mixhub, published, tmp_path, write_lora("c", seed=2))
    running, client = server()
    client.files_are(published)
    for _way, answer in client.uploads():
        client.refused(answer, home_folder)
    client.refused(client.ask("POST", "/api/repos/create", json={"name": "c"}), home_folder)
    assert running.end() == INTERRUPTED
    small_disk.mount("rw")
    sound(mixhub)


def test_damage_on_a_read_only_mount_is_named_although_it_cannot_be_marked(
    small_disk: Any, home_folder: Path, published: dict[str, bytes], mixhub: Callable[..., Any], tmp_path: Path
) -> None:
    sha256 = hashlib.sha256(published["adapter_model.safetensors"]).hexdigest()
    with (home_folder / "blobs" / sha256[:2] / sha256).open("r+b") as file:
        file.write(b"!")
    small_disk.mount("ro")
    ran = mixhub("pull", "team/a", tmp_path / "pulled")
    assert ran.code == 1 and sha256 in ran.err and "is damaged" in ran.err


def test_a_read_only_home_with_writes_in_its_log_is_refused_until_they_are_merged(
    small_disk: Any, home_folder: Path, mixhub: Callable[..., Any]
) -> None:
    subprocess.run([sys.executable, "-c", KILLED, home_folder], check=True, timeout=60)
    assert (home_folder / "mixhub.sqlite-wal").stat().st_size > 0
    small_disk.mount("ro")
    for words in (["ls"], ["db", "check"], ["serve", "--port", "0"]):
        ran = mixhub(*words)
        assert ran.code == 1 and "the log beside its database" in ran.err and "`mixhub db check`" in ran.err
        assert "Traceback" not in ran.err
    small_disk.mount("rw")
    assert mixhub("db", "check").code == 0
    small_disk.mount("ro")
    assert mixhub("ls", "--json").json == []


def reads_and_refuses(mixhub: Callable[..., Any], files: dict[str, bytes], tmp_path: Path, other: Path) -> None:
    assert [one["address"] for one in mixhub("ls", "--json").json] == ["team/a", "team/b"]
    assert mixhub("show", "team/a", "--json").json["facts"]
    assert mixhub("pull", "team/a", tmp_path / "pulled").code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "pulled").iterdir()} == files
    for words in (["publish", other, "team/c"], ["promote", "team/a@v1", "prod"], ["user", "create", "ann"]):
        ran = mixhub(*words)
        assert ran.code == 1 and ran.out == "" and "Traceback" not in ran.err
        assert "nothing was stored" in ran.err or "nothing can be stored" in ran.err
