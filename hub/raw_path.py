"""The outermost layer of the server: request ids, and routing on the path as it was sent.

Clients write a branch `feat/x` as one segment `feat%2Fx`. ASGI servers decode that before routing, which makes it two
segments; so the path is put back as it came, and parameters are decoded after matching (`quoted`). A path prefix
(`MIXHUB_PUBLIC_URL`, or X-Forwarded-Prefix of a trusted proxy) is taken off where the proxy has left it on.
"""

from __future__ import annotations

import uuid
from urllib.parse import unquote, urlsplit

from starlette.convertors import CONVERTOR_TYPES, Convertor, register_url_convertor
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_TARGET = 16 * 1024
"""Bytes of path and query."""


class QuotedSegment(Convertor[str]):
    """One segment as sent, decoded once: `{rev:quoted}`."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value, errors="replace").replace("\0", "\ufffd")  # names that no database could look up

    def to_string(self, value: str) -> str:
        return value


class QuotedRest(QuotedSegment):
    """All segments that are left, decoded once: `{path:rest}`."""

    regex = ".*"


# the router knows convertors by name, and needs them when a module of routes is imported
for _name, _convertor in (("quoted", QuotedSegment()), ("rest", QuotedRest())):
    if _name not in CONVERTOR_TYPES:
        register_url_convertor(_name, _convertor)


class RawPath:
    """An ASGI app around another."""

    def __init__(self, app: ASGIApp, *, public_url: str, trusted_proxies: frozenset[str]) -> None:
        self._app = app
        self._prefix = urlsplit(public_url).path.rstrip("/")
        self._trusted = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        raw = scope.get("raw_path") or scope["path"].encode()
        if len(raw) + len(scope["query_string"]) > MAX_TARGET:
            raw = b"/too-long"
        prefix = self._prefix or self._forwarded_prefix(scope)
        path = raw.split(b"?")[0].decode("latin-1")
        if prefix and (path == prefix or path.startswith(f"{prefix}/")):
            path = path[len(prefix) :] or "/"
        state = {**scope.get("state", {}), "prefix": prefix, "request_id": request_id}
        await self._app({**scope, "path": path, "root_path": "", "state": state}, receive, send_with_id)

    def _forwarded_prefix(self, scope: Scope) -> str:
        return forwarded(scope, "x-forwarded-prefix", self._trusted).rstrip("/")


def forwarded(scope: Scope, header: str, trusted: frozenset[str]) -> str:
    """The first value of a proxy's header; empty where the peer is not a trusted proxy."""
    client = scope.get("client")
    if client is None or client[0] not in trusted:
        return ""
    values = [value for name, value in scope["headers"] if name == header.encode()]
    return values[0].decode("latin-1").split(",")[0].strip() if values else ""
