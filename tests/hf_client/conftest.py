"""A live server on loopback and the real Hugging Face client against it, in stock mode (Xet) and with classic LFS."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import close_session

from hub.actions import accounts as account_actions
from hub.home import Home, open_home
from hub.serving import web_server
from hub.settings import Settings

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Live:
    """A running server: its address, and its home opened a second time, as an operator on its machine has it."""

    url: str
    port: int
    home: Home

    def user(self, name: str = "", *, role: str = "write", **options: object) -> User:
        """A new account with a token."""
        name = name or f"user{next(_numbers)}"
        account_actions.create_user(self.home, name, is_admin=role == "admin")
        return self.token_of(name, role=role, **options)

    def token_of(self, name: str, *, role: str = "write", **options: object) -> User:
        made = account_actions.create_token(self.home, name, role=role, **options)  # type: ignore[arg-type]
        return User(name, made.token, self.url)


@dataclass(frozen=True)
class User:
    name: str
    token: str
    url: str

    @property
    def api(self) -> HfApi:
        return HfApi(endpoint=self.url, token=self.token)


def serve(settings: Settings, *, port: int = 0) -> Iterator[Live]:
    """Run a server in a thread of this process until the generator is closed."""
    with open_home(settings) as home:
        account_actions.first_start(home)
        server = web_server(settings, host="127.0.0.1", port=port)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 120
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.started, "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Live(f"http://127.0.0.1:{port}", port, home)
        server.should_exit = True
        thread.join(timeout=20)


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One server for all tests; each test makes its own accounts."""
    folder = tmp_path_factory.mktemp("served") / "home"
    yield from serve(Settings(home=folder, database_url="", blobs_url="", page_size=3))


class Servers:
    """Further servers, each with settings of its own: `serve_with(page_size=2)`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, tuple[Iterator[Live], dict[str, Any]]] = {}

    def __call__(self, *, port: int = 0, **settings: Any) -> Live:
        home = self._folder / f"home{len(self._running)}"
        chosen = {"home": home, "database_url": "", "blobs_url": "", **settings}
        running = serve(Settings(**chosen), port=port)
        live = next(running)
        self._running[live.url] = (running, chosen)
        return live

    def again(self, live: Live) -> Live:
        """The same home at the same address, after a restart."""
        settings = self._stop(live.url)
        return self(port=live.port, **settings)

    def stop_all(self) -> None:
        for url in list(self._running):
            self._stop(url)

    def _stop(self, url: str) -> dict[str, Any]:
        running, settings = self._running.pop(url)
        next(running, None)
        return settings


@pytest.fixture
def serve_with(tmp_path: Path) -> Iterator[Servers]:
    """Another server, with settings of its own."""
    servers = Servers(tmp_path)
    yield servers
    servers.stop_all()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[httpx2.Request]:
    """The requests that clients in this process make, as they make them."""
    made: list[httpx2.Request] = []
    send = httpx2.Client.send

    def noting(self: httpx2.Client, request: httpx2.Request, **options: Any) -> httpx2.Response:
        made.append(request)
        return send(self, request, **options)

    monkeypatch.setattr(httpx2.Client, "send", noting)
    return made


@pytest.fixture(params=["xet", "lfs"])
def mode(request: pytest.FixtureRequest) -> str:
    """How large files travel: as a stock client sends them, or with HF_HUB_DISABLE_XET=1."""
    return str(request.param)


@pytest.fixture(autouse=True)
def client_settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the environment sets for a client: a fresh HF_HOME, this endpoint, online, the mode."""
    mode = request.getfixturevalue("mode") if "mode" in request.fixturenames else "xet"
    live: Live = request.getfixturevalue("live")
    hf_home = tmp_path / "hf"
    monkeypatch.setenv("HF_HOME", str(hf_home))
    monkeypatch.setenv("HF_XET_CACHE", str(hf_home / "xet"))
    for name, value in {
        "HF_HOME": str(hf_home), "HF_HUB_CACHE": str(hf_home / "hub"), "HF_XET_CACHE": str(hf_home / "xet"),
        "HF_TOKEN_PATH": str(hf_home / "token"), "AGENT_HARNESSES_PATH": str(hf_home / "harnesses.json"),
        "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": mode == "lfs", "ENDPOINT": live.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": live.url + "/{repo_id}/resolve/{revision}/{filename}",
    }.items():  # fmt: skip
        monkeypatch.setattr(constants, name, value)
    yield
    close_session()


@pytest.fixture
def ann(live: Live) -> User:
    """A user with a token that writes."""
    return live.user()


@pytest.fixture
def bob(live: Live) -> User:
    """A stranger to ann."""
    return live.user()


@pytest.fixture
def adapter(write_lora: Callable[..., Path]) -> Path:
    """A small adapter with a card, and names that are hard to send."""
    folder = write_lora("adapter", card="---\nlicense: mit\ntags: [sql]\n---\n# An adapter\n")
    (folder / "empty.txt").write_bytes(b"")
    nested = folder / "sub" / "deep"
    nested.mkdir(parents=True)
    (nested / "a b#é.txt").write_text("odd name", encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps({"a": 1}), encoding="utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Path -> bytes of everything below, without a client's own bookkeeping."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".cache" not in path.parts
    }


@pytest.fixture
def read_folder() -> Callable[[Path], dict[str, bytes]]:
    return contents
