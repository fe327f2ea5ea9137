"""What it costs that downloads are digested on their way out, against the tree before it, in one run on one machine.

    mkdir /tmp/before && git archive 3811459 | tar -x -C /tmp/before
    python tests/benchmarks/bench_verified.py --before /tmp/before [--megabytes 1000] [--rounds 5] [--out DIR]

A server of each tree serves one file of the same bytes from a home of its own; one plain HTTP client reads it whole,
in turns, and throws it away. Seconds are those of the client; CPU seconds are those of the server's process, which say
more where the machine is busy. `first part`: ten bytes, asked for from a server that has just started and has never
seen the blob, which are given out when the whole was digested; `next part`: the same once more.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bench_transfer import machine, seconds, spread
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parents[2]
NAME = "model.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the tree without digests")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a folder for verified.md")
    chosen = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="mixhub-bench-"))
    try:
        found = run(chosen, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(as_table(found))
    if chosen.out:
        (chosen.out / "verified.md").write_text(as_table(found), encoding="utf-8")


def run(chosen: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    folder = scratch / "files"
    folder.mkdir()
    values = np.random.default_rng(0).standard_normal(chosen.megabytes * 250_000, dtype="float32")
    save_file({"x": values}, folder / NAME)
    about = {**machine(), "rounds": chosen.rounds, "file": f"{chosen.megabytes} MB"}
    trees = {"before": chosen.before.resolve(), "now": HERE}
    times: dict[str, dict[str, list[float]]] = {name: {} for name in trees}
    for name, tree in trees.items():
        publish(tree, scratch / name, folder)

    def note(name: str, what: str, value: float) -> None:
        times[name].setdefault(what, []).append(value)

    for _ in range(chosen.rounds):
        note("now", "sha256 alone", seconds(digest, folder / NAME))
        for name, tree in trees.items():
            with served(tree, scratch / name) as (url, token, process):
                note(name, "first part", seconds(get, url, token, part=True))
                note(name, "next part", seconds(get, url, token, part=True))
                before = cpu_seconds(process)
                note(name, "whole", seconds(get, url, token))
                note(name, "whole, CPU of the server", cpu_seconds(process) - before)
    return {
        "about": about,
        **{name: {what: spread(all_) for what, all_ in found.items()} for name, found in times.items()},
    }


def publish(tree: Path, home: Path, folder: Path) -> None:
    """A repo with the one file, and a token in a file beside it."""
    script = (
        "import sys; from pathlib import Path; from storage.blobs import *\n"
        "from hub.home import open_home; from hub.settings import Settings\n"
        "from hub.actions import accounts as a; from storage import accounts, blob_records, repos, revisions\n"
        "home, folder, name = map(str, sys.argv[1:])\n"
        "with open_home(Settings(home=home)) as h:\n"
        "    a.first_start(h)\n"
        "    made = a.create_token(h, 'admin', role='admin')\n"
        "    blob = h.blobs.put_file(Path(folder) / name)\n"
        "    with h.write() as s:\n"
        "        blob_records.record(s, accounts.ensure(s, 'admin'), [blob])\n"
        "        repo = repos.create(s, 'admin', 'large')\n"
        "        file = revisions.File(name, blob.size, blob.sha256, blob.git_sha1)\n"
        "        revisions.create_revision(s, repo, [file], parent=None, author='admin', title='t')\n"
        "    print(made.token)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(home), str(folder), NAME], cwd=tree, text=True, stdout=subprocess.PIPE,
        check=True, env={**os.environ, "PYTHONPATH": str(tree)},
    )  # fmt: skip
    home.with_suffix(".token").write_text(ran.stdout.strip())


@contextmanager
def served(tree: Path, home: Path) -> Iterator[tuple[str, str, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    server = subprocess.Popen(
        [sys.executable, "-m", "hub.cli.main", "serve", "--port", url.rpartition(":")[2]], cwd=tree,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(tree), "MIXHUB_HOME": str(home)},
    )  # fmt: skip
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/healthz").close()
                break
            except OSError:
                time.sleep(0.1)
        yield url, home.with_suffix(".token").read_text(), server.pid
    finally:
        server.terminate()
        server.wait(20)


def get(url: str, token: str, *, part: bool = False) -> None:
    headers = {"Authorization": f"Bearer {token}", **({"Range": "bytes=0-9"} if part else {})}
    request = urllib.request.Request(f"{url}/admin/large/resolve/main/{NAME}", headers=headers)
    with urllib.request.urlopen(request, timeout=600) as answer:
        while answer.read(1 << 20):
            pass


def digest(path: Path) -> None:
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def as_table(found: dict[str, Any]) -> str:
    about = ", ".join(f"{name} {value}" for name, value in found["about"].items())
    lines = ["# Downloads that are digested on their way out", ""]
    lines += [f"Made by `bench_verified.py`: {about}. Seconds: median (least to most).", ""]
    lines += ["| | before | now |", "|---|---:|---:|"]
    for what in found["now"]:
        cells = (found[name].get(what) for name in ("before", "now"))
        shown = (f"{c['median']} ({c['least']} to {c['most']})" if c else "" for c in cells)
        lines.append(f"| {what} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
