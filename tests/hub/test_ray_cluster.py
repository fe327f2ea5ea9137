"""An address where no Ray can be is told at once. With a real cluster: tests/journeys/test_ray.py."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from hub import ray_cluster
from hub.errors import HubError
from hub.ray_cluster import _require_ray, connected


@pytest.fixture(params=["says nothing", "speaks HTTP", "hangs up"])
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    """HOST:PORT of something that is not Ray."""
    held: list[socket.socket] = []

    def serve(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            if request.param == "speaks HTTP":
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            if request.param == "hangs up":
                connection.close()
            else:
                held.append(connection)

    with socket.create_server(("", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in held:
        connection.close()


def test_a_port_where_something_else_listens_is_refused_by_name_and_without_log_lines(
    stranger: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_cluster, "HEALTH_SECONDS", 4)
    began = time.monotonic()
    with pytest.raises(HubError, match=f"no Ray answers at {stranger} .* something listens there") as caught:
        _require_ray(stranger)  # alone: Ray keeps the token of its first import, which tests/journeys choose
    assert "ray start --head" in caught.value.remedy
    assert time.monotonic() - began < 20 and capfd.readouterr() == ("", "")


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
