"""Request bodies as plain iterators in a thread: hashing and disk writing stay out of the event loop, memory small."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import anyio.from_thread
import anyio.to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from hub.errors import BadUpload, TooLarge
from hub.server import Server

T = TypeVar("T")

PIECE = 1 << 20
"""Bytes that are handed to the thread at once."""
DRAIN = 64 * 2**20
"""Bytes of a refused body that are still read, so that the client gets to see the answer."""


async def with_body(request: Request, server: Server, work: Callable[[Iterator[bytes]], T], *, limit: int) -> T:
    """`work(pieces of the body)` in an upload thread. Raises TooLarge beyond `limit` bytes."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(f"The request has {announced} bytes; at most {limit} are taken.")
    pieces = _pieces(request, limit)

    def run() -> T:
        return work(_from_thread(pieces))

    try:
        return await anyio.to_thread.run_sync(run, limiter=server.uploads)
    except ClientDisconnect:
        raise BadUpload("The client went away before the upload was complete.") from None
    except Exception:
        await _drain(pieces)
        raise


async def _pieces(request: Request, limit: int) -> AsyncIterator[bytes]:
    waiting, size, total = [], 0, 0
    async for chunk in request.stream():
        waiting.append(chunk)
        size += len(chunk)
        total += len(chunk)
        if total > limit:
            raise TooLarge(f"The request has more than the {limit} bytes that are taken.")
        if size >= PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    if size:
        yield b"".join(waiting)


def _from_thread(pieces: AsyncIterator[bytes]) -> Iterator[bytes]:
    async def following() -> bytes | None:
        return await anext(pieces, None)

    while (piece := anyio.from_thread.run(following)) is not None:
        yield piece


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    read = 0
    try:
        async for piece in pieces:
            read += len(piece)
            if read > DRAIN:
                return
    except (ClientDisconnect, TooLarge):
        return
