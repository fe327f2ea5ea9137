"""`make conformance`: the core set with older clients, each in a virtual environment of its own, with Xet and without.

python tests/conformance/run.py [VERSION ...]
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

VERSIONS = ("0.36.2", "1.19.0", "1.31.0")
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".conformance"


def main(versions: list[str]) -> int:
    scratch = Path(tempfile.mkdtemp(prefix="mixhub-conformance-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MIXHUB_HOME": str(scratch / "home")}
    server = subprocess.Popen(
        [sys.executable, "-m", "hub.cli.main", "serve", "--port", str(port)], cwd=ROOT, env=environment,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz")
        failed = 0
        for version in versions or VERSIONS:
            python = client(version)
            for mode in ("xet", "lfs"):
                failed += check(python, version, mode, f"http://127.0.0.1:{port}", environment, scratch)
        return failed
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(scratch, ignore_errors=True)


def client(version: str) -> Path:
    """The interpreter of an environment with this client, made on first use."""
    place = ENVIRONMENTS / version
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        venv.create(place, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", f"huggingface_hub=={version}", "hf_xet"], check=True)
        (place / "ready").touch()
    return python


def check(python: Path, version: str, mode: str, url: str, environment: dict[str, str], scratch: Path) -> int:
    """Run the core set as a new account; 1 if it failed."""
    name = f"client-{version.replace('.', '-')}-{mode}"
    command = [sys.executable, "-m", "hub.cli.main"]
    subprocess.run([*command, "user", "create", name], cwd=ROOT, env=environment, check=True, capture_output=True)
    made = subprocess.run(
        [*command, "token", "create", "--user", name, "--role", "write"], cwd=ROOT, env=environment, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHONPATH"))}
    kept |= {
        "HF_ENDPOINT": url, "HF_TOKEN": made.stdout.strip(), "HF_HOME": str(scratch / name),
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    if mode == "lfs":
        kept["HF_HUB_DISABLE_XET"] = "1"
    done = subprocess.run(
        [python, Path(__file__).with_name("core.py"), name], env=kept, capture_output=True, text=True
    )  # fmt: skip
    print(f"{mode}: {done.stdout.strip()}" if done.returncode == 0 else f"{mode}: {version} failed\n{done.stderr}")
    return int(done.returncode != 0)


def wait_for(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise SystemExit("the server does not answer")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
