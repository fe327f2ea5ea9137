"""What a command acts on: this machine's home, or the server of --url or MIXHUB_URL. Commands ask here, once."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from hub.errors import UsageError
from hub.settings import Settings

if TYPE_CHECKING:
    from hub.client import Hub

_url: ContextVar[str] = ContextVar("url", default="")


def choose(url: str) -> None:
    """--url of the command line; empty: it was not given."""
    _url.set(url)


def settings() -> Settings:
    """As the environment says, with --url before it."""
    found = Settings()
    return found.model_copy(update={"url": _url.get()}) if _url.get() else found


def open_hub() -> Hub:
    """The home or the server, for commands that work on both."""
    from hub.client import Hub  # half a second, which a command line that is wrong need not wait for

    return Hub(settings=settings())


def own_home(command: str) -> Settings:
    """For commands on a home itself: with a server chosen, they would do something else than the user believes."""
    found = settings()
    if found.url:
        raise UsageError(
            f"`mixhub {command}` acts on the home of its own machine, not on {found.url}",
            remedy=f"run it on the server's machine, or: env -u MIXHUB_URL mixhub {command}",
        )
    return found
