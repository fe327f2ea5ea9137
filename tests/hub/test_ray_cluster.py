"""An address where no Ray can be is told at once. With a real cluster: tests/journeys/test_ray.py."""

from __future__ import annotations

import socket
import time

import pytest

from hub.errors import HubError
from hub.ray_cluster import connected


def test_an_address_where_nothing_listens_is_refused_at_once_and_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(HubError, match=rf"127.0.0.1:{port}") as caught, connected(f"127.0.0.1:{port}"):
        pass
    assert time.monotonic() - began < 10
    assert f"ray start --head --port={port}" in caught.value.remedy


@pytest.mark.parametrize("address", ["here:there", "here:", "127.0.0.1:123456"])
def test_an_address_that_is_no_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(HubError, match="expected HOST:PORT"), connected(address):
        pass
