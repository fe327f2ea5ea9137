"""What a folder of blobs promises beyond the contract: surviving kills, and uploads beside a sweep."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.blobs import LocalBlobs, open_blobs, sweep
from storage.errors import CorruptBlob

SLOW_WRITER = """
import sys, time
from storage.blobs import open_blobs
def slowly():
    for _ in range(1000):
        yield b"x" * 65536
        print("wrote", flush=True)
        time.sleep(0.002)
open_blobs(sys.argv[1]).put_stream(slowly())
print("done", flush=True)
"""

FAST_WRITER = """
import itertools, os, sys
from storage.blobs import open_blobs
store = open_blobs(sys.argv[1])
for number in itertools.count():
    store.put_stream([str(number).encode() * 50_000])
    print(number, flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


def start(script: str, root: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def assert_every_blob_is_whole(store: LocalBlobs) -> int:
    found = 0
    for blob in store.blobs():
        assert hashlib.sha256(store.read(blob.sha256)).hexdigest() == blob.sha256
        found += 1
    return found


def test_a_killed_write_leaves_a_leftover_and_no_half_blob_and_the_sweep_takes_it(root: Path) -> None:
    process = start(SLOW_WRITER, root)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    kill(process)
    store = LocalBlobs(root)
    assert list(store.blobs()) == []
    assert len(list(store.leftovers())) == 1
    later = datetime.now(UTC) + timedelta(hours=2)
    swept = sweep(store, keep=(), now=later, older_than=timedelta(hours=1))
    assert len(swept.leftovers) == 1
    assert list(store.leftovers()) == []


def test_kills_at_many_points_never_leave_half_a_blob_under_a_final_name(root: Path) -> None:
    store = LocalBlobs(root)
    for attempt in range(6):
        process = start(FAST_WRITER, root)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.007 * attempt)
        kill(process)
        assert assert_every_blob_is_whole(store) >= 1


def test_files_and_folders_are_synced_before_the_blob_counts_as_stored(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (steps.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd))[1]
    )
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append("rename"), replace(self, to))[1])
    stored = LocalBlobs(root).put_stream([b"content"])
    renamed = steps.index("rename")
    assert any(step.startswith(f"{root}/incoming/") for step in steps[:renamed])
    assert f"{root}/{stored.sha256[:2]}" in steps[renamed:]
    assert str(root) in steps


def test_putting_bytes_again_makes_them_young_and_repairs_a_short_file(root: Path) -> None:
    store = LocalBlobs(root)
    stored = store.put_stream([b"content"])
    path = store.local_path(stored.sha256)
    assert path is not None
    os.utime(path, (0, 0))
    store.put_stream([b"content"])
    limit = datetime.now(UTC) - timedelta(minutes=1)
    assert store.delete(stored.sha256, unless_modified_since=limit) is False
    path.write_bytes(b"cont")
    store.put_stream([b"content"])
    assert store.read(stored.sha256) == b"content"


def test_a_sweep_beside_uploads_of_the_same_bytes_loses_none(root: Path) -> None:
    store = LocalBlobs(root)
    stop = threading.Event()

    def sweep_all_the_time() -> None:
        while not stop.is_set():
            sweep(store, keep=(), now=datetime.now(UTC), older_than=timedelta(seconds=30))

    sweeper = threading.Thread(target=sweep_all_the_time)
    sweeper.start()
    try:
        for _ in range(60):
            stored = store.put_stream([b"wanted"])
            assert store.read(stored.sha256) == b"wanted"
            path = store.local_path(stored.sha256)
            assert path is not None
            os.utime(path, (0, 0))  # old: fair game until somebody puts it again
    finally:
        stop.set()
        sweeper.join()


def test_a_refused_file_does_not_touch_the_blob_of_the_same_name(root: Path) -> None:
    store = LocalBlobs(root)
    stored = store.put_stream([b"content"])
    with pytest.raises(CorruptBlob, match="expected"):
        store.put_stream([b"CONTENT"], expected_sha256=stored.sha256)
    assert store.read(stored.sha256) == b"content"


def test_a_file_url_is_a_folder(root: Path) -> None:
    stored = open_blobs(f"file://{root}").put_stream([b"content"])
    assert LocalBlobs(root).read(stored.sha256) == b"content"
