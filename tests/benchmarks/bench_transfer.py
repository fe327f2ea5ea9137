"""Uploads and downloads through the hub against the physical limit on the same machine, as ratios in one run.

    python tests/benchmarks/bench_transfer.py [--clients 64] [--megabytes 100] [--adapters 500] [--rounds 3] [--out DIR]

The limit of an upload is a plain file copy, synced, plus sha256 of the bytes. The limits of a download are a plain file
copy, and `sendfile` of the same file by a bare server, read by the same plain HTTP client and written to disk. The
client of the hub is the real one, so its own work (hashing, chunking, caching) is part of the hub's time, as it is for
users; `http` is the hub without it. An adapter is published before the clock starts, because the first
one makes the server load torch. Each round is measured one after the other; figures are medians, and the spread is
in the JSON.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
from safetensors.numpy import save_file


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--adapters", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a folder for transfer.json and transfer.md")
    chosen = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="mixhub-bench-"))
    try:
        found = run(chosen, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(as_table(found))
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / "transfer.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        (chosen.out / "transfer.md").write_text(as_table(found), encoding="utf-8")


def run(chosen: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    about = machine()
    with served(scratch) as (url, token):
        os.environ |= {"HF_ENDPOINT": url, "HF_HOME": str(scratch / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        os.environ.pop("HF_HUB_OFFLINE", None)
        warm_up(token, scratch / "warm")
        return {
            "about": {**about, "rounds": chosen.rounds},
            f"one file of {chosen.megabytes} MB": rounds(large, token, scratch, chosen.megabytes, chosen.rounds),
            f"{chosen.adapters} small adapters": rounds(small, token, scratch, chosen.adapters, chosen.rounds),
            f"{chosen.clients} clients at once": together(token, scratch, chosen.clients),
            "load at the end": os.getloadavg()[0],
        }


@contextmanager
def served(scratch: Path) -> Iterator[tuple[str, str]]:
    """A server of the hub as a process of its own: its URL and the administrator's token."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    server = subprocess.Popen(
        [sys.executable, "-m", "hub.cli.main", "serve", "--port", url.rpartition(":")[2]], stdout=subprocess.PIPE,
        text=True, stderr=subprocess.DEVNULL, env={**os.environ, "MIXHUB_HOME": str(scratch / "home")},
    )  # fmt: skip
    try:
        assert server.stdout is not None
        token = server.stdout.readline().strip()
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/healthz").close()
                break
            except OSError:
                time.sleep(0.1)
        yield url, token
    finally:
        server.terminate()
        server.wait(20)


def warm_up(token: str, folder: Path) -> None:
    from huggingface_hub import HfApi

    adapter(folder, seed=2**32)
    HfApi(token=token).create_repo("admin/warm")
    HfApi(token=token).upload_folder(repo_id="admin/warm", folder_path=folder)


Times = dict[str, float]


def rounds(measure: Callable[..., Times], token: str, scratch: Path, amount: int, count: int) -> dict[str, Any]:
    """Median and spread of each time over the rounds, and of each ratio to the limit of the same round."""
    every = [measure(token, scratch / f"{measure.__name__}{i}", amount, seed=i) for i in range(count)]
    found: dict[str, Any] = {}
    for name in every[0]:
        limit = "copy and hash" if "upload" in name else "copy"
        found[name] = {"seconds": spread([times[name] for times in every])}
        if name not in ("copy", "copy and hash", "sendfile"):
            found[name]["/ " + limit] = spread([times[name] / times[limit] for times in every])
        if "download" in name:
            found[name]["/ sendfile"] = spread([times[name] / times["sendfile"] for times in every])
    return found


def spread(values: list[float]) -> dict[str, float]:
    found = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: round(value, 3) for name, value in found.items()}


def large(token: str, scratch: Path, megabytes: int, *, seed: int) -> Times:
    from huggingface_hub import HfApi

    api, repo = HfApi(token=token), f"admin/large{seed}"
    source = scratch / "large" / "model.safetensors"
    weights(source, {"x": (megabytes * 2**18,)}, seed=seed)
    api.create_repo(repo)
    times = {"copy and hash": seconds(copy_and_hash, source, scratch / "copy")}
    times["upload"] = seconds(api.upload_file, path_or_fileobj=source, path_in_repo=source.name, repo_id=repo)
    times["copy"] = seconds(shutil.copyfile, source, scratch / "copy2")
    with sendfile_server(source.parent) as bare:
        times["sendfile"] = seconds(fetch, f"{bare}/{source.name}", scratch / "sent")
    times["download, http"] = seconds(fetch, f"{api.endpoint}/{repo}/resolve/main/{source.name}", scratch / "plain")
    times["download"] = seconds(api.hf_hub_download, repo, source.name)
    assert (scratch / "plain").read_bytes() == (scratch / "sent").read_bytes() == source.read_bytes()
    shutil.rmtree(scratch)
    return times


def small(token: str, scratch: Path, count: int, *, seed: int) -> Times:
    from huggingface_hub import HfApi

    api, repo = HfApi(token=token), f"admin/small{seed}"
    folder = scratch / "small"
    for i in range(count):
        adapter(folder / f"a{i:04d}", seed=seed * count + i)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    api.create_repo(repo)

    def copy_all(how: Callable[[Path, Path], object], name: str) -> None:
        for file in files:
            target = scratch / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            how(folder / file, target)

    def fetch_all(base: str, name: str) -> None:
        with httpx2.Client() as client:
            for file in files:
                target = scratch / name / file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(client.get(f"{base}/{file}").raise_for_status().content)

    times = {"copy and hash": seconds(copy_all, copy_and_hash, "one")}
    times["upload"] = seconds(api.upload_folder, folder_path=folder, repo_id=repo)
    times["copy"] = seconds(copy_all, shutil.copyfile, "two")
    with sendfile_server(folder) as bare:
        times["sendfile"] = seconds(fetch_all, bare, "sent")
    times["download, http"] = seconds(fetch_all, f"{api.endpoint}/{repo}/resolve/main", "plain")
    times["download"] = seconds(api.snapshot_download, repo, local_dir=scratch / "back")
    for file in files:
        assert (scratch / "back" / file).read_bytes() == (folder / file).read_bytes()
    shutil.rmtree(scratch)
    return times


def together(token: str, scratch: Path, clients: int) -> dict[str, Any]:
    """Every client publishes an adapter to a folder of one branch of one repo, lists it, and reads its own back."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo("admin/together")
    for i in range(clients):
        adapter(scratch / f"c{i}", seed=10**6 + i)
    problems: list[str] = []

    def one(i: int) -> float:
        began = time.perf_counter()
        try:
            own = HfApi(token=token)
            own.upload_folder(repo_id="admin/together", folder_path=scratch / f"c{i}", path_in_repo=f"c{i}")
            name = f"c{i}/adapter_model.safetensors"
            assert name in own.list_repo_files("admin/together")
            back = Path(own.hf_hub_download("admin/together", name, local_dir=scratch / f"back{i}"))
            assert back.read_bytes() == (scratch / name).read_bytes()
        except Exception as error:
            problems.append(f"client {i}: {type(error).__name__}: {error}")
        return time.perf_counter() - began

    with ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        each = list(pool.map(one, range(clients)))
        took = time.perf_counter() - began
    files, log = api.list_repo_files("admin/together"), api.list_repo_commits("admin/together")
    lost = clients + 1 - len(log)
    assert not problems and not lost and len(files) == 2 * clients, (problems[:3], lost, len(files))
    return {
        "errors": len(problems), "lost commits": lost, "seconds": round(took, 2),
        "commits per second": round(clients / took, 1), "seconds of one client": spread(each),
    }  # fmt: skip


@contextmanager
def sendfile_server(folder: Path) -> Iterator[str]:
    """A bare HTTP server in a process of its own that answers with os.sendfile; its URL."""
    serve = [sys.executable, __file__, "sendfile", str(folder)]
    server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.terminate()
        server.wait(10)


class SendFile(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open, as the hub's do
    disable_nagle_algorithm = True  # else small files wait 40 ms for an acknowledgement

    def do_GET(self) -> None:
        with Path(self.translate_path(self.path)).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.send_response(200)
            self.send_header("content-length", str(size))
            self.end_headers()
            self.wfile.flush()
            self.connection.sendfile(file)

    def log_message(self, *_: object) -> None:
        pass


def serve_with_sendfile(folder: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(SendFile, directory=folder))
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever).start()


def adapter(folder: Path, *, seed: int) -> None:
    """A LoRA of about 20 KB with its config."""
    names = [f"base_model.model.layers.{i}.q_proj.lora_{x}.weight" for i in range(2) for x in "AB"]
    shapes = {name: (4, 312) if "lora_A" in name else (312, 4) for name in names}
    weights(folder / "adapter_model.safetensors", shapes, seed=seed)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "org/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def weights(path: Path, shapes: dict[str, tuple[int, ...]], *, seed: int) -> None:
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    tensors = {name: random.standard_normal(shape, dtype="float32") for name, shape in shapes.items()}
    save_file(tensors, path)


def copy_and_hash(source: Path, target: Path) -> None:
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as write:
        while piece := read.read(1 << 20):
            digest.update(piece)
            write.write(piece)
        write.flush()
        os.fsync(write.fileno())


def fetch(url: str, target: Path) -> None:
    with httpx2.stream("GET", url) as answer, target.open("wb") as file:
        answer.raise_for_status()
        for piece in answer.iter_bytes(1 << 20):
            file.write(piece)


def seconds(work: Callable[..., object], *args: object, **options: object) -> float:
    began = time.perf_counter()
    work(*args, **options)
    return time.perf_counter() - began


def machine() -> dict[str, object]:
    named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "machine": named[0].partition(":")[2].strip() if named else platform.machine(), "cores": os.cpu_count(),
        "load at the start": os.getloadavg()[0], "python": platform.python_version(), "commit": commit,
    }  # fmt: skip


def as_table(found: dict[str, Any]) -> str:
    about = ", ".join(f"{name} {value}" for name, value in found["about"].items())
    lines = ["# Transfers through the hub", "", f"Made by `bench_transfer.py`: {about}. Medians (least to most).", ""]
    lines += ["| | | seconds | / copy (and hash) | / sendfile |", "|---|---|---:|---:|---:|"]
    for what, times in found.items():
        if not isinstance(times, dict) or "upload" not in times:
            continue
        for name, values in times.items():
            cells = (
                values.get("seconds"),
                values.get("/ copy", values.get("/ copy and hash")),
                values.get("/ sendfile"),
            )
            shown = (f"{c['median']} ({c['least']} to {c['most']})" if c else "" for c in cells)
            lines.append(f"| {what} | {name} | {' | '.join(shown)} |")
    for what, values in found.items():
        if "clients" in what:
            lines += ["", f"{what}: " + ", ".join(f"{name} {value}" for name, value in values.items()) + "."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["sendfile"]:
        serve_with_sendfile(sys.argv[2])
    else:
        main()
