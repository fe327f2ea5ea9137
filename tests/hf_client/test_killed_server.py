"""kill -9 of a server while the real client uploads: whole revisions only, a clean home, and trying again works."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from hub.actions import database
from hub.settings import Settings

DEADLY = Path(__file__).with_name("deadly_server.py")
STEPS = [
    ("xet", "a xorb has arrived", "after"),
    ("xet", "a blob is recorded", "after"),
    ("lfs", "a blob gets its name", "before"),
    ("lfs", "a revision is made", "after"),
    ("lfs", "a transaction ends", "after"),
]


class Pusher:
    """Pushes folders to one repo, whatever happens to the server, and knows what may be there."""

    def __init__(self, server: Any, write_lora: Callable[..., Path]) -> None:
        self.api = HfApi(endpoint=server.url, token=server.token)
        self.home, self._write, self._number = server.home, write_lora, 0
        self.api.create_repo("admin/a")
        self.there = self.files()
        self.problem: Exception | None = None

    def push(self) -> threading.Thread:
        """Begin to push a new folder."""
        self._number += 1
        self.folder = self._write(f"f{self._number}", seed=self._number, r=self._number + 1)
        (self.folder / "more.safetensors.txt").write_bytes(random.Random(self._number).randbytes(1_000_000))
        (self.folder / "large.gguf").write_bytes(random.Random(-self._number).randbytes(3_000_000))
        self.problem = None
        thread = threading.Thread(target=self._upload)
        thread.start()
        return thread

    def _upload(self) -> None:
        try:
            self.api.upload_folder(repo_id="admin/a", folder_path=self.folder)
        except Exception as error:
            self.problem = error

    def files(self) -> dict[str, str]:
        """path -> digest of what the hub has."""
        info = self.api.model_info("admin/a", files_metadata=True)
        return {one.rfilename: one.lfs.sha256 if one.lfs else str(one.blob_id) for one in info.siblings or []}

    def check_after_the_kill(self) -> None:
        report = database.check(Settings(home=self.home, database_url="", blobs_url=""), deep=True)
        assert report.problems == ()

    def check_and_push_again(self) -> None:
        """Nothing or all of the push is there; once more, and all of it is."""
        found = self.files()
        downloaded = {path.name for path in Path(self.api.snapshot_download("admin/a")).iterdir()}
        assert downloaded == found.keys()
        if self.problem is not None:
            self.api.upload_folder(repo_id="admin/a", folder_path=self.folder)
        complete = self.files()
        assert found in (self.there, complete), "half of a push is there"
        assert {path.name for path in self.folder.iterdir()} <= complete.keys() and complete != self.there
        self.there = complete


def test_killed_at_a_step_of_an_upload(
    start_server: Any, write_lora: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = tmp_path / "arm"
    programs = [(DEADLY, arm, step, when) for _, step, when in STEPS]
    server = start_server(program=programs[0])
    pusher = Pusher(server, write_lora)
    for i, (mode, step, when) in enumerate(STEPS):
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", mode == "lfs")
        arm.touch()
        thread = pusher.push()
        assert server.process.wait(60) == -signal.SIGKILL, (mode, step, when)
        arm.unlink()
        pusher.check_after_the_kill()
        server = start_server(after=server, program=programs[(i + 1) % len(programs)])
        thread.join(120)
        pusher.check_and_push_again()


def test_killed_at_any_time(start_server: Any, write_lora: Any, mode: str) -> None:
    """The command itself, without a hand in it."""
    server = start_server()
    pusher = Pusher(server, write_lora)
    began = time.monotonic()
    pusher.push().join(120)
    whole = time.monotonic() - began
    assert pusher.problem is None
    pusher.there = pusher.files()
    thread = pusher.push()
    time.sleep({"xet": 0.4, "lfs": 0.8}[mode] * whole)
    server.end(signal.SIGKILL)
    pusher.check_after_the_kill()
    start_server(after=server)
    thread.join(120)
    pusher.check_and_push_again()
