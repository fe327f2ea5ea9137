"""Who pays for a request, and how long the one who asked too much has to wait."""

from __future__ import annotations

import asyncio
from typing import Any

from hub.rate_limit import REMEMBERED, RateLimit


class Server:
    """The layer around an app that accepts tokens beginning with `good`; time stands still unless it is moved."""

    def __init__(self, per_minute: int) -> None:
        self.now = 1000.0
        trusted = frozenset({"10.0.0.1", "10.0.0.2"})
        self.layer = RateLimit(self._app, per_minute=per_minute, trusted_proxies=trusted, clock=lambda: self.now)

    async def _app(self, scope: Any, _receive: Any, send: Any) -> None:
        scope["state"]["signed_in"] = dict(scope["headers"]).get(b"authorization", b"").startswith(b"good")
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def ask(self, *, token: str = "", peer: str = "1.1.1.1", path: str = "/api/models", passed: str = "") -> int:
        """0 for an answer, else the seconds to wait."""
        headers = [(b"authorization", token.encode())] if token else []
        headers += [(b"x-forwarded-for", passed.encode())] if passed else []
        started: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            started.extend([message] if message["type"] == "http.response.start" else [])

        scope = {"type": "http", "path": path, "headers": headers, "client": (peer, 1), "state": {}}
        asyncio.run(self.layer(scope, None, send))  # type: ignore[arg-type]
        if started[0]["status"] == 200:
            return 0
        found = {name.decode(): value.decode() for name, value in started[0]["headers"]}
        assert started[0]["status"] == 429 and found["ratelimit"] == f'"requests";r=0;t={found["retry-after"]}'
        return int(found["retry-after"])


def asked_at_once(server: Server, **how: str) -> int:
    """Requests that are answered before one is not."""
    return next(number for number in range(1000) if server.ask(**how))


def test_a_minute_s_worth_at_once_and_then_as_time_goes_by() -> None:
    server = Server(30)
    assert asked_at_once(server) == 30
    assert server.ask() == 2
    server.now += 2
    assert server.ask() == 0 and server.ask() == 2
    server.now += 600
    assert asked_at_once(server) == 30


def test_callers_do_not_pay_for_each_other() -> None:
    server = Server(10)
    assert server.ask(token="good ann") == 0 and server.ask(token="good bob") == 0
    assert asked_at_once(server, token="good ann") == 10
    assert asked_at_once(server, token="good bob") == 10
    assert asked_at_once(server) == 8  # two were paid by the address: nobody knew the tokens yet
    assert asked_at_once(server, peer="2.2.2.2") == 10


def test_made_up_tokens_share_the_limit_of_their_address() -> None:
    server = Server(10)
    assert sum(server.ask(token=f"made up {number}") == 0 for number in range(50)) == 10


def test_behind_trusted_proxies_the_client_pays_and_cannot_say_that_it_is_another() -> None:
    server = Server(10)
    assert asked_at_once(server, peer="10.0.0.1", passed="6.6.6.6, 3.3.3.3, 10.0.0.2") == 10
    assert server.ask(peer="10.0.0.1", passed="7.7.7.7, 3.3.3.3")
    assert server.ask(peer="10.0.0.1", passed="4.4.4.4") == 0
    assert asked_at_once(server, peer="5.5.5.5", passed="8.8.8.8") == 10
    assert server.ask(peer="5.5.5.5", passed="9.9.9.9")


def test_transfers_and_health_are_free() -> None:
    server = Server(1)
    assert server.ask() == 0 and server.ask()
    assert not any(server.ask(path=path) for path in ("/healthz", "/_lfs/put/x", "/_cas/x/v1/shards"))


def test_those_who_owe_nothing_are_forgotten() -> None:
    server = Server(60)
    for number in range(REMEMBERED + 1):
        server.layer._charge(f"{number}")
    server.now += 2
    server.ask()
    assert len(server.layer._paid_until) == 1
