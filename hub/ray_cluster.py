"""A connection to Ray for as long as a search runs: a cluster of its own on this machine, or one that is there.

Ray guards its ports by a token (RAY_AUTH_MODE=token, the default; RAY_AUTH_TOKEN or ~/.ray/auth_token). Whoever can
reach a cluster and has its token can run code on it, so it belongs on a private network.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from compose.errors import MissingExtra
from hub.errors import HubError

LOCAL = "local"
ANSWER_SECONDS = 5
"""For a cluster's port to take a connection. Ray itself would try for minutes, with log lines of its own."""
HEALTH_SECONDS = 20
"""For `ray health-check`, which takes 2 where Ray answers or refuses the token."""


def is_cluster(text: str) -> bool:
    """Whether a word names a cluster: HOST:PORT, `auto` or `local`; no adapter's address does."""
    return text in (LOCAL, "auto") or (":" in text and not text.startswith("-"))


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Ray at `address` (HOST:PORT, or `auto`), or, with `local`, started here and ended with the search.

    A process that is connected already keeps its connection. `HubError` when there is no cluster at the address, it
    refuses the token, or it has another version of Ray.
    """
    _require_answer(address)
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("--ray needs the package ray", remedy='pip install "mixhub[ray]"') from error
    if ray.is_initialized():
        yield
        return
    _require_ray(address)
    try:
        if address == LOCAL:
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
        else:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise HubError(
            f"cannot connect to Ray at {address}: {error}",
            remedy="start it there (ray start --head), and give its RAY_AUTH_TOKEN here",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """`HubError` unless something listens at HOST:PORT; other words are for Ray to find."""
    if ":" not in address:
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise HubError(f"--ray {address}: expected HOST:PORT", remedy="--ray 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise HubError(
            f"no Ray answers at {address}: {error}",
            remedy=f"start it there (ray start --head --port={port}), or give --ray alone: on this machine",
        ) from error


def _require_ray(address: str) -> None:
    """`HubError` unless what listens at HOST:PORT is a Ray that lets us in. Asked in a process of its own, which can be
    ended, and whose log lines nobody sees."""
    if ":" not in address or "://" in address:
        return
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=HEALTH_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise HubError(
            f"no Ray answers at {address} within {HEALTH_SECONDS} seconds, though something listens there",
            remedy="give HOST:PORT of its head as `ray start --head` says it, or --ray alone: on this machine",
        ) from error
    if asked.returncode:
        said = (asked.stderr.strip() or asked.stdout.strip()).rpartition("\n")[2] or "it is not healthy"
        raise HubError(
            f"cannot connect to Ray at {address}: {said.partition('. ')[0]}",
            remedy="give the cluster's RAY_AUTH_TOKEN here, and install its version of Ray",
        )
