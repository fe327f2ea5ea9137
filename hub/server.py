"""What a running server holds, and what routes ask for: the opened home, the caller, the base URL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from hub.access import Caller, caller_of
from hub.errors import InvalidToken
from hub.home import Home
from hub.leftovers import scratch_of
from hub.mirror import Mirror
from hub.raw_path import forwarded
from hub.settings import Settings


@dataclass(frozen=True)
class Server:
    settings: Settings
    home: Home
    key: bytes
    """Signs upload URLs and Xet tokens."""
    uploads: CapacityLimiter
    """Threads that take request bodies: apart from those that answer, so slow uploads block nobody."""

    mirror: Mirror | None = None
    """Public repos of another hub, where one is set up."""

    @property
    def scratch(self) -> Path:
        """For parts of uploads; what lies here is worthless after a day."""
        return scratch_of(self.home.directory)

    @property
    def trusted_proxies(self) -> frozenset[str]:
        return trusted_proxies(self.settings)


def trusted_proxies(settings: Settings) -> frozenset[str]:
    return frozenset(part.strip() for part in settings.trusted_proxies.split(",") if part.strip())


def server_of(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


def caller_from(request: Request) -> Caller:
    """From the header Authorization. Raises InvalidToken."""
    header = request.headers.get("authorization")
    if header is None:
        token = None
    else:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise InvalidToken("Invalid credentials in Authorization header")
    with server_of(request).home.read() as session:
        caller = caller_of(session, token)
    request.state.signed_in = not caller.anonymous
    return caller


def base_url_of(request: Request) -> str:
    """As the client reaches the server, without a slash at the end: what it is told must have its own host."""
    server = server_of(request)
    if server.settings.public_url:
        return server.settings.public_url.rstrip("/")
    trusted = server.trusted_proxies
    scheme = forwarded(request.scope, "x-forwarded-proto", trusted) or request.scope["scheme"]
    host = forwarded(request.scope, "x-forwarded-host", trusted) or request.headers.get("host", "localhost")
    return f"{scheme}://{host}{request.state.prefix}"


ServerDep = Annotated[Server, Depends(server_of)]
CallerDep = Annotated[Caller, Depends(caller_from)]
BaseUrl = Annotated[str, Depends(base_url_of)]
