"""What lies between client and server: a reverse proxy, a connection that breaks, another host that has the bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import uvicorn
from safetensors.numpy import save
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from storage.blobs.local import LocalBlobs


@pytest.fixture
def proxied(serve_with: Any) -> Iterator[Any]:
    """A server and the address of a reverse proxy before it, which takes the prefix /hub off."""
    live = serve_with(page_size=3)

    async def forward(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = scope["raw_path"].decode().removeprefix("/hub")
        query = scope["query_string"].decode()
        headers = [(name, value) for name, value in request.headers.items() if name != "connection"]
        headers += [("x-forwarded-proto", "http"), ("x-forwarded-host", request.headers["host"])]
        headers += [("x-forwarded-prefix", "/hub")]
        async with httpx2.AsyncClient(timeout=60) as client:
            outgoing = client.build_request(
                request.method, f"{live.url}{path}" + (f"?{query}" if query else ""), headers=headers,
                content=request.stream() if request.method in ("POST", "PUT", "DELETE") else None,
            )  # fmt: skip
            answer = await client.send(outgoing, stream=True)
            response = StreamingResponse(_raw(answer), answer.status_code, dict(answer.headers))
            await response(scope, receive, send)

    config = uvicorn.Config(forward, port=0, log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield live, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/hub"
    server.should_exit = True
    thread.join(10)


async def _raw(answer: httpx2.Response) -> AsyncIterator[bytes]:
    async for piece in answer.aiter_raw():
        yield piece


@pytest.mark.case(37)
def test_behind_a_reverse_proxy_with_a_prefix_everything_has_the_proxy_s_address(
    mode: str, proxied: Any, adapter: Path, tmp_path: Path, read_folder: Callable[[Path], dict[str, bytes]],
    sent: list[httpx2.Request],
) -> None:  # fmt: skip
    live, url = proxied
    user = replace(live.user(), url=url)
    repo = f"{user.name}/proxied"
    assert str(user.api.create_repo(repo)) == f"{url}/{repo}"
    done = user.api.upload_folder(repo_id=repo, folder_path=adapter)
    assert done.commit_url.startswith(f"{url}/{repo}/commit/")
    assert len(list(user.api.list_repo_tree(repo, recursive=True))) > 3  # pages have three: the links lead on
    assert read_folder(Path(user.api.snapshot_download(repo, local_dir=tmp_path / "b"))) == read_folder(adapter)
    assert sent and all(str(one.url).startswith(url) for one in sent)


@contextmanager
def breaking_once(port: int, *, after: int) -> Iterator[int]:
    """The port of a forwarder that ends the first connection which has brought more than `after` bytes."""
    listener = socket.create_server(("127.0.0.1", 0))
    broken = threading.Event()

    def pump(source: socket.socket, target: socket.socket, *, answers: bool) -> None:
        brought = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                target.sendall(piece)
                brought += len(piece)
                if answers and brought > after and not broken.is_set():
                    broken.set()
                    break
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                pumps = [
                    threading.Thread(target=pump, args=(client, server), kwargs={"answers": False}, daemon=True),
                    threading.Thread(target=pump, args=(server, client), kwargs={"answers": True}, daemon=True),
                ]
                for one in pumps:
                    one.start()
                threading.Thread(target=_close_after, args=(pumps, client, server), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    assert broken.is_set(), "no connection was broken"


def _close_after(pumps: list[threading.Thread], *ends: socket.socket) -> None:
    for one in pumps:
        one.join()
    for end in ends:
        end.close()


@pytest.mark.case(30)
def test_a_download_goes_on_where_the_connection_broke(
    mode: str, live: Any, ann: Any, sent: list[httpx2.Request]
) -> None:
    content = save({"x": np.random.default_rng(0).random(8_000_000, dtype="float32")})  # 32 MB
    repo = f"{ann.name}/large"
    ann.api.create_repo(repo)
    ann.api.upload_file(path_or_fileobj=content, path_in_repo="w.safetensors", repo_id=repo)
    sent.clear()
    with breaking_once(live.port, after=24 * 2**20) as port:
        user = replace(ann, url=f"http://127.0.0.1:{port}")
        assert Path(user.api.hf_hub_download(repo, "w.safetensors")).read_bytes() == content
    starts = [one.headers.get("range") for one in sent if one.method == "GET"]
    assert starts == [None, f"bytes={20 * 2**20}-"]  # clients keep whole blocks of 10 MiB


@pytest.mark.case(31)
def test_another_host_that_has_the_bytes_never_sees_the_token(
    mode: str, serve_with: Any, monkeypatch: pytest.MonkeyPatch, adapter: Path, tmp_path: Path,
    read_folder: Callable[[Path], dict[str, bytes]],
) -> None:  # fmt: skip
    live = serve_with(redirect_downloads=True)
    user = live.user()
    seen: list[dict[str, str]] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            path = live.home.blobs.local_path(self.path.strip("/"))
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{host.server_port}"
        monkeypatch.setattr(LocalBlobs, "download_url", lambda _self, sha256, **_: f"{address}/{sha256}")
        repo = f"{user.name}/redirected"
        user.api.create_repo(repo, private=True)
        user.api.upload_folder(repo_id=repo, folder_path=adapter)
        assert read_folder(Path(user.api.snapshot_download(repo, local_dir=tmp_path / "b"))) == read_folder(adapter)
        host.shutdown()
    assert len(seen) >= 5 and not any("authorization" in headers or "cookie" in headers for headers in seen)
