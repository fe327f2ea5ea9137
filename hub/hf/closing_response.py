"""A streamed answer that lets go of what it reads from, also when the client goes away in the middle."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class ClosingResponse(StreamingResponse):
    """Closes the generator that it was given; else an open file would wait for the garbage collector."""

    def __init__(self, pieces: Iterator[bytes] | AsyncIterator[bytes], **options: Any) -> None:
        super().__init__(pieces, **options)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if isinstance(self._pieces, Generator):
                self._pieces.close()
            elif isinstance(self._pieces, AsyncGenerator):
                await self._pieces.aclose()
