"""A connection to Ray for as long as a search runs: a cluster of its own on this machine, or one that is there.

Ray guards its ports by a token (RAY_AUTH_MODE=token, the default; RAY_AUTH_TOKEN or ~/.ray/auth_token). Whoever can
reach a cluster and has its token can run code on it, so it belongs on a private network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from compose.errors import MissingExtra
from hub.errors import HubError

LOCAL = "local"


def is_cluster(text: str) -> bool:
    """Whether a word names a cluster: HOST:PORT, `auto` or `local`; no adapter's address does."""
    return text in (LOCAL, "auto") or (":" in text and not text.startswith("-"))


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Ray at `address` (HOST:PORT, or `auto`), or, with `local`, started here and ended with the search.

    A process that is connected already keeps its connection. `HubError` when there is no cluster at the address or it
    refuses the token.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("--ray needs the package ray", remedy='pip install "mixhub[ray]"') from error
    if ray.is_initialized():
        yield
        return
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
