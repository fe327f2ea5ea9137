"""So many requests a minute for each caller, counted in this process (MIXHUB_REQUESTS_PER_MINUTE; off by default).

The generic cell rate algorithm: one instant per caller, up to which what it has asked so far is paid for; every request
moves it on by 60 s / limit, and it may lie one minute ahead. A token counts for itself once it was accepted, until then
its address pays: tokens that somebody makes up share the limit of where they come from.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from hub import http_errors

BURST = 60.0
"""Seconds that a caller may be ahead."""
REMEMBERED = 10_000
"""Callers, before those that owe nothing are forgotten."""
_FREE = ("/healthz", "/_lfs/", "/_cas/")
"""Transfers have a signed address or token: the request that gave it was counted."""


class RateLimit:
    """An ASGI app around another, inside `RawPath`."""

    def __init__(
        self, app: ASGIApp, *, per_minute: int, trusted_proxies: frozenset[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._app = app
        self._per_minute = per_minute
        self._trusted = trusted_proxies
        self._clock = clock
        self._paid_until: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_FREE):
            await self._app(scope, receive, send)
            return
        token = _token(scope)
        caller = token if token in self._paid_until else _address(scope, self._trusted)
        wait = self._charge(caller)
        if wait:
            refused = http_errors.response(
                429, f"More than {self._per_minute} requests a minute; go on in {wait} s.", retry_after=wait
            )
            refused.headers["RateLimit"] = f'"requests";r=0;t={wait}'
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)
        if token and scope["state"].get("signed_in"):
            self._paid_until.setdefault(token, self._clock())

    def _charge(self, caller: str) -> int:
        """Seconds to wait; 0: go on."""
        now = self._clock()
        if len(self._paid_until) > REMEMBERED:
            self._paid_until = {who: until for who, until in self._paid_until.items() if until > now}
        until = max(self._paid_until.get(caller, now), now) + BURST / self._per_minute
        if until > now + BURST:
            return math.ceil(until - now - BURST)
        self._paid_until[caller] = until
        return 0


def _token(scope: Scope) -> str:
    """A digest of what the caller signs in with; empty: nothing."""
    sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return hashlib.sha256(sent).hexdigest() if sent else ""


def _address(scope: Scope, trusted: frozenset[str]) -> str:
    """Of the client; behind trusted proxies, the nearest one that they say they talk to."""
    peer: str = scope["client"][0] if scope.get("client") else "unknown"
    passed = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    hops = [hop.strip() for hop in ",".join(passed).split(",") if hop.strip()]
    while peer in trusted and hops:
        peer = hops.pop()
    return peer
