"""The server as an ASGI app over a home. Nothing is opened before it starts, and nothing is global."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from starlette.types import ASGIApp

from hub import api, hf, http_errors, leftovers
from hub.actions.accounts import UPLOADS_KEY
from hub.actions.backfill import backfill
from hub.api.openapi_examples import add_examples
from hub.home import Home, opened_database, set_up
from hub.home import home_of as home_over
from hub.mirror import Mirror
from hub.rate_limit import RateLimit
from hub.raw_path import RawPath
from hub.scrub import Scrub
from hub.server import Server, trusted_proxies
from hub.settings import Settings
from storage import server_keys
from storage.cannot_store import told
from storage.errors import CannotStore, DatabaseLost

UPLOAD_THREADS = 64


class _App(FastAPI):
    """FastAPI whose document of the native API has examples."""

    def openapi(self) -> dict[str, Any]:
        fresh = self.openapi_schema is None
        document = super().openapi()
        if fresh:
            add_examples(document)
        return document


@told
def _catch_up(home: Home, settings: Settings) -> None:
    """What a release before this one did not note, and what interrupted work left. Can wait for a disk with room."""
    leftovers.sweep(home.directory, older_than=leftovers.seconds_in_use(settings))
    backfill(home)


def create_app(settings: Settings, *, on_lost: Callable[[DatabaseLost], None] | None = None) -> ASGIApp:
    """The app; the home of `settings` is opened, and its schema upgraded, when it starts.

    Where the database is lost every request is refused; `on_lost` is called once, to end the process.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with opened_database(settings, on_lost=on_lost) as engine:
            home = home_over(settings, engine)
            set_up(home)
            with suppress(CannotStore):
                _catch_up(home, settings)
            with home.write() as session:
                key = server_keys.key(session, UPLOADS_KEY)
            mirror = Mirror(settings, home, leftovers.scratch_of(home.directory)) if settings.upstream else None
            scrub = Scrub(home, rate=settings.scrub_bytes_per_second) if settings.scrub_bytes_per_second > 0 else None
            if scrub is not None:
                scrub.start()
            app.state.server = Server(settings, home, key, CapacityLimiter(UPLOAD_THREADS), mirror)
            try:
                yield
            finally:
                if scrub is not None:
                    scrub.stop()
                if mirror is not None:
                    mirror.close()

    app = _App(
        title="mixhub", lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None,
        openapi_url="/api/v1/openapi.json", summary="A hub for LoRA adapters that also mixes them.",
    )  # fmt: skip
    http_errors.install(app)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        """Up, with the database at this program's schema: it would not have started otherwise."""
        return {"status": "ok"}

    app.include_router(api.router)
    for router in hf.routers:
        app.include_router(router, include_in_schema=False)  # it is documented elsewhere
    trusted = trusted_proxies(settings)
    limited: ASGIApp = app
    if settings.requests_per_minute:
        limited = RateLimit(app, per_minute=settings.requests_per_minute, trusted_proxies=trusted)
    return RawPath(limited, public_url=settings.public_url, trusted_proxies=trusted)
