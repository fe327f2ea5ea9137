"""How the web server under the hub is set up."""

from __future__ import annotations

from collections.abc import Callable

import uvicorn

from hub.app import create_app
from hub.settings import Settings
from storage.errors import DatabaseLost


def web_server(
    settings: Settings, *, host: str, port: int, on_lost: Callable[[DatabaseLost], None] | None = None
) -> uvicorn.Server:
    """Ready to run. `h11` holds request lines and headers to 64 KiB; proxy headers are this program's own business."""
    config = uvicorn.Config(
        create_app(settings, on_lost=on_lost), host=host, port=port, http="h11", lifespan="on", access_log=False,
        log_level="warning", proxy_headers=False, server_header=False, timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )  # fmt: skip
    return uvicorn.Server(config)
