"""Refusals of a server as the very errors that the same command raises without one, and the failures of getting there.

The body of a refusal names the error, its words and its remedy (hub/http_errors.py); a name that this release does not
know becomes a `ServerRefused`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import compose.errors
import hub.errors
import storage.errors
from compose.errors import ComposeError
from hub.errors import HubError, ServerRefused, ServerUnreachable
from storage.errors import StorageError

_ROOTS = (HubError, ComposeError, StorageError)


@contextmanager
def told_plainly(url: str) -> Iterator[None]:
    """What huggingface_hub and its transport raise inside the block, as one of our errors."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    try:
        yield
    except HfHubHTTPError as error:
        raise refusal(url, error.response) from error
    except OfflineModeIsEnabled as error:
        raise ServerUnreachable(
            f"HF_HUB_OFFLINE is set, so {url} is not asked", remedy="unset HF_HUB_OFFLINE"
        ) from error
    except (HTTPError, ConnectionError) as error:
        raise ServerUnreachable(
            f"{url} cannot be reached: {' '.join(str(error).split()) or type(error).__name__}",
            remedy="check MIXHUB_URL, and that `mixhub serve` runs there",
        ) from error


def refusal(url: str, response: Any) -> Exception:
    """The error that an answer above 399 stands for."""
    try:
        told = json.loads(response.content)
    except (ValueError, RuntimeError):  # a proxy's page, or a stream that nobody read
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("error"), str):
        words = response.headers.get("x-error-message", "")
        return ServerRefused(
            f"{url} answered {response.status_code}" + (f": {words}" if words else ", not as a mixhub server does"),
            remedy="check MIXHUB_URL",
        )
    kind = _known(told.get("kind"))
    message, remedy = str(told.get("message") or told["error"]), str(told.get("remedy") or "")
    if response.status_code == 401:
        remedy = f"mixhub login {url}"
    if kind is None:
        return ServerRefused(message, remedy=remedy)
    error: Exception = kind.__new__(kind)
    error.args = (message,)
    # not by its own __init__: children of the roots take more than words where they arise
    vars(error).update(message=message, remedy=remedy)
    return error


def _known(name: object) -> Any:
    for module in (hub.errors, compose.errors, storage.errors):
        kind = getattr(module, str(name), None)
        if isinstance(kind, type) and issubclass(kind, _ROOTS):
            return kind
    return None
