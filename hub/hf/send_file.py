"""A file as an answer: its headers, and the part of it that was asked for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import quote

from fastapi import Request, Response
from starlette.background import BackgroundTask

from hub import http_errors
from hub.hf.closing_response import ClosingResponse
from storage.revisions import File

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_TEXT = frozenset({".json", ".jsonl", ".md", ".txt", ".yaml", ".yml", ".py", ".jinja", ".toml", ".csv"})

Pieces = Callable[[int, int], Iterator[bytes] | AsyncIterator[bytes]]
"""The bytes [start, end) of the file."""


def file_headers(file: File, commit_id: str, *, public: bool, exact: bool, whole: bool = False) -> dict[str, str]:
    """`exact`: the address names this commit. `whole`: see `send`.

    Never a type that a browser would run: the content is a stranger's.
    """
    suffix = "." + file.path.rpartition(".")[2].lower()
    name = file.path.rpartition("/")[2]
    scope = "public" if public else "private"
    headers = {
        "X-Repo-Commit": commit_id,
        "ETag": f'"{file.sha256 if file.upload_mode == "lfs" else file.git_sha1}"',
        "Accept-Ranges": "none" if whole else "bytes",
        "Content-Type": "text/plain; charset=utf-8" if suffix in _TEXT else "application/octet-stream",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": f"{scope}, max-age=31536000, immutable" if exact else "no-cache",
    }
    if file.upload_mode == "lfs":
        headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(file.size)}
    return headers


def send(
    request: Request, file: File, headers: dict[str, str], pieces: Pieces, *, background: BackgroundTask | None = None
) -> Response:
    """The whole file, or the range that the request names. `background` runs after one that begins at the beginning.

    Where the headers accept no ranges, a download is not resumed but begins anew: what the client has may be wrong.
    """
    asked = request.headers.get("range")
    same = request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
    span = _span(asked, file.size) if asked and same else None
    if span == "unsatisfiable":
        refused = http_errors.response(416, f"{file.path} has {file.size} bytes.")
        refused.headers["Content-Range"] = f"bytes */{file.size}"
        return refused
    start, end = span if isinstance(span, tuple) else (0, file.size)
    if start > 0 and headers["Accept-Ranges"] == "none":
        span, start, end = None, 0, file.size
    headers["Content-Length"] = str(end - start)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    return ClosingResponse(
        pieces(start, end),
        status_code=200 if span is None else 206,
        headers=headers,
        background=background if start == 0 else None,
    )


def _span(header: str, size: int) -> tuple[int, int] | str | None:
    """[start, end) of a single range, held to the file; None: not a range that we serve, so the whole file goes."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    return (start, end) if start < end else "unsatisfiable"
