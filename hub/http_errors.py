"""Which status, headers and words an error becomes: the only such map.

Clients go by the header X-Error-Code and show X-Error-Message; the body `{"error": ...}` is for people and for older
clients, and names the error, with its words and its remedy apart, for our own (hub/remote/errors.py). Header text must
be one line of Latin-1.
"""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException

from compose.errors import ComposeError
from hub import errors as hub_errors
from hub.errors import HubError
from storage import errors as storage_errors
from storage.cannot_store import meaning_of
from storage.errors import StorageError

_log = logging.getLogger("mixhub")

RETRY_AFTER = 5
"""Seconds that a client is asked to wait when the database does not answer."""

# the first row that fits decides: children before their roots
STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (hub_errors.InvalidToken, 401, ""),
    (hub_errors.SignInFirst, 401, ""),
    (hub_errors.NotAllowed, 403, ""),
    (hub_errors.BadSignature, 403, ""),
    (hub_errors.RepoNotFound, 404, "RepoNotFound"),
    (hub_errors.RevisionNotFound, 404, "RevisionNotFound"),
    (hub_errors.EntryNotFound, 404, "EntryNotFound"),
    (hub_errors.GatedRepo, 403, "GatedRepo"),
    (hub_errors.Outdated, 412, ""),
    (hub_errors.TooLarge, 413, ""),
    (hub_errors.NotReproduced, 409, ""),
    # clients go on with what is in their cache at once: a 5xx would make them try for half a minute, file by file
    (hub_errors.UpstreamFailed, 424, ""),
    (HubError, 400, ""),
    (ComposeError, 400, ""),
    (storage_errors.NotFound, 404, ""),
    (storage_errors.AlreadyExists, 409, ""),
    (storage_errors.Conflict, 409, ""),
    (storage_errors.PinnedRevision, 409, ""),
    (storage_errors.InvalidName, 400, ""),
    (storage_errors.CorruptBlob, 400, ""),
    (storage_errors.DatabaseLost, 503, ""),
    (storage_errors.Swept, 503, ""),  # clients send the bytes once more
    # clients show these words at once, and do not try again
    (storage_errors.CannotStore, 507, ""),
    (StorageError, 500, ""),
)


def install(app: FastAPI) -> None:
    """Every error of the app, its own and the framework's, in one shape."""
    for root in (HubError, ComposeError, StorageError):
        app.add_exception_handler(root, _domain_error)
    app.add_exception_handler(RequestValidationError, _malformed_request)
    app.add_exception_handler(HTTPException, _http_exception)
    for failure in (OperationalError, InterfaceError, NoConnection, storage_errors.DatabaseBusy):
        app.add_exception_handler(failure, _unavailable)
    for value in (DataError, OverflowError, UnicodeEncodeError):
        app.add_exception_handler(value, _impossible_value)
    app.add_exception_handler(OSError, _machine_failed)
    app.add_exception_handler(Exception, _unexpected)


def response(
    status: int,
    message: str,
    *,
    code: str = "",
    commit_id: str = "",
    retry_after: int | None = None,
    told: dict[str, str] | None = None,
) -> JSONResponse:
    """An error as Hugging Face clients read it. `retry_after` in seconds; `told` is what the body says beside the
    words."""
    one_line = "".join(sign if sign.isprintable() else "?" for sign in " ".join(message.split())[:2000])
    headers = {"X-Error-Message": one_line.encode("latin-1", "replace").decode("latin-1")}
    if code:
        headers["X-Error-Code"] = code
    if commit_id:
        headers["X-Repo-Commit"] = commit_id
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return JSONResponse({"error": message, **(told or {})}, status_code=status, headers=headers)


async def _domain_error(_request: Request, error: Exception) -> JSONResponse:
    status, code = next((status, code) for kind, status, code in STATUS if isinstance(error, kind))
    if getattr(error, "anonymous", False):
        status = 401
    if status == 507:
        _log.error("request refused: %s", getattr(error, "message", error))
    elif status >= 500:
        _log.error("request failed", exc_info=error)
    message, remedy = getattr(error, "message", str(error)), getattr(error, "remedy", "")
    words = f"{message} ({remedy})" if remedy else message
    told = {"kind": type(error).__name__, "message": message, "remedy": remedy}
    return response(status, words, code=code, commit_id=getattr(error, "commit_id", ""), told=told)


async def _malformed_request(_request: Request, error: Exception) -> JSONResponse:
    listed = error.errors() if isinstance(error, RequestValidationError) else []
    words = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in listed)
    return response(400, f"The request is malformed: {words}")


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    """Unknown routes. A known path with another method is unknown too: Xet clients give up on 405 but not on 404."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status in (404, 405):
        foreign_kind = request.url.path.startswith(("/api/datasets/", "/api/spaces/", "/api/kernels/"))
        return response(404, "There is nothing at this address.", code="RepoNotFound" if foreign_kind else "")
    return response(status, str(getattr(error, "detail", "")))


async def _unavailable(_request: Request, error: Exception) -> JSONResponse:
    """Not the caller's fault, and it may pass. Clients try again, or use what their cache has."""
    _log.error("the database failed", exc_info=error)
    words = "The database does not answer; try again."
    if isinstance(error, storage_errors.DatabaseBusy):
        words = f"{error.message} {error.remedy}"
    return response(503, words, retry_after=RETRY_AFTER)


async def _impossible_value(_request: Request, error: Exception) -> JSONResponse:
    """NUL in a text (PostgreSQL), a number beyond 64 bits, half a surrogate pair: no row could hold it."""
    _log.info("refused a value: %s", error)
    return response(400, "The request has a text or number that cannot be stored or looked up.")


async def _machine_failed(request: Request, error: Exception) -> JSONResponse:
    """A disk that takes no more, wherever bytes are on their way; its own words would name a path."""
    meant = meaning_of(error)
    return await (_unexpected(request, error) if meant is None else _domain_error(request, meant))


async def _unexpected(_request: Request, error: Exception) -> JSONResponse:
    _log.error("request failed", exc_info=error)
    return response(500, "The server failed; its log says why.")
