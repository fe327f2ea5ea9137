"""Uploads and downloads through the hub against the physical limit on the same machine, as ratios in one run.

    python tests/benchmarks/bench_transfer.py [--clients 64] [--megabytes 100] [--adapters 500]

The limit of an upload is a plain file copy, synced, plus sha256 of the bytes; of a download, a plain file copy. The
client is the real one, so its own work (hashing, chunking, caching) is part of the hub's time, as it is for users.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from safetensors.numpy import save_file


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--adapters", type=int, default=500)
    chosen = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="mixhub-bench-"))
    try:
        print(json.dumps(run(chosen, scratch), indent=2))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run(chosen: argparse.Namespace, scratch: Path) -> dict[str, object]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    os.environ |= {"HF_ENDPOINT": url, "HF_HOME": str(scratch / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    os.environ.pop("HF_HUB_OFFLINE", None)
    server = subprocess.Popen(
        [sys.executable, "-m", "hub.cli.main", "serve", "--port", str(port)], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, env={**os.environ, "MIXHUB_HOME": str(scratch / "home")},
    )  # fmt: skip
    assert server.stdout is not None
    token = server.stdout.readline().strip()
    time.sleep(2)
    try:
        return {
            "one large file": large(token, scratch, chosen.megabytes),
            "small adapters": small(token, scratch, chosen.adapters),
            "clients at once": together(token, chosen.clients),
        }
    finally:
        server.terminate()
        server.wait(20)


def large(token: str, scratch: Path, megabytes: int) -> dict[str, float]:
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    source = scratch / "large" / "model.safetensors"
    weights(source, megabytes * 2**20)
    limit_up = seconds(lambda: copy_and_hash(source, scratch / "copy"))
    api.create_repo("admin/large")
    up = seconds(lambda: api.upload_file(path_or_fileobj=source, path_in_repo=source.name, repo_id="admin/large"))
    limit_down = seconds(lambda: shutil.copyfile(source, scratch / "copy2"))
    down = seconds(lambda: api.hf_hub_download("admin/large", source.name))
    plain = seconds(lambda: fetch(f"{api.endpoint}/admin/large/resolve/main/{source.name}", token))
    return ratios(upload=(up, limit_up), download=(down, limit_down), download_by_plain_http=(plain, limit_down))


def small(token: str, scratch: Path, count: int) -> dict[str, float]:
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    folder = scratch / "small"
    for i in range(count):
        weights(folder / f"a{i}" / "weights.safetensors", 20_000, seed=i)
    files = [path for path in folder.rglob("*") if path.is_file()]
    limit = seconds(lambda: [copy_and_hash(path, scratch / "one") for path in files])
    api.create_repo("admin/small")
    up = seconds(lambda: api.upload_folder(folder_path=folder, repo_id="admin/small"))
    back = scratch / "back"
    limit_down = seconds(lambda: shutil.copytree(folder, back))
    down = seconds(lambda: api.snapshot_download("admin/small"))
    return ratios(upload=(up, limit), download=(down, limit_down))


def together(token: str, clients: int) -> dict[str, float]:
    """Every client commits to one branch of one repo, and reads it; no error, no lost commit."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo("admin/together")

    def one(i: int) -> None:
        api.upload_file(path_or_fileobj=b"%d" % i, path_in_repo=f"{i}.txt", repo_id="admin/together")
        api.list_repo_files("admin/together")

    with ThreadPoolExecutor(clients) as pool:
        took = seconds(lambda: list(pool.map(one, range(clients))))
    files, log = api.list_repo_files("admin/together"), api.list_repo_commits("admin/together")
    assert len(files) == clients and len(log) == clients + 1, (len(files), len(log))
    return {"clients": clients, "seconds": round(took, 2), "commits per second": round(clients / took, 1)}


def weights(path: Path, size: int, *, seed: int = 0) -> None:
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": np.random.default_rng(seed).standard_normal(size // 4).astype("float32")}, path)


def copy_and_hash(source: Path, target: Path) -> None:
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as write:
        while piece := read.read(1 << 20):
            digest.update(piece)
            write.write(piece)
        write.flush()
        os.fsync(write.fileno())


def fetch(url: str, token: str) -> None:
    import httpx2

    with httpx2.stream("GET", url, headers={"authorization": f"Bearer {token}"}) as answer:
        for _ in answer.iter_bytes(1 << 20):
            pass


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ratios(**pairs: tuple[float, float]) -> dict[str, float]:
    found = {}
    for name, (ours, limit) in pairs.items():
        found |= {f"{name} seconds": round(ours, 3), f"{name} / limit": round(ours / limit, 2)}
    return found


if __name__ == "__main__":
    main()
