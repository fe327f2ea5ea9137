"""One file on its way from an upstream: written to disk once, and read by everybody who waits for it meanwhile.

A reader never gets the last byte before the whole file was checked, so nobody takes a wrong file for a complete one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from hub.errors import HubError, UpstreamFailed
from storage.blobs.contract import CHUNK
from storage.errors import CorruptBlob, StorageError
from storage.revisions import File

_log = logging.getLogger("mixhub")

MAX_SECONDS = 6 * 3600
"""Of one download."""
TICK = 0.02
"""Seconds between two looks of a reader that waits."""


class Download:
    """Runs in a thread of its own until it is done, fails or is stopped. `error`: what a reader gets then."""

    def __init__(
        self, file: File, scratch: Path, source: Callable[[], AbstractContextManager[Iterator[bytes]]],
        store: Callable[[Iterator[bytes]], None],
    ) -> None:  # fmt: skip
        """`source()` opens the bytes; `store(pieces)` keeps them if they are right, and raises if not."""
        scratch.mkdir(parents=True, exist_ok=True)
        self._file, self._source, self._store = file, source, store
        self._spool, name = tempfile.mkstemp(dir=scratch)
        os.unlink(name)  # noqa: PTH108, it lasts as long as somebody reads it, and no kill leaves it behind
        weakref.finalize(self, os.close, self._spool)
        self._available = 0
        self._stopped = False
        self.error: Exception | None = None
        self.began = threading.Event()
        """The first bytes are there, or there will be none."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stopped = True
        self._thread.join(timeout=30)

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes [start, end) as they arrive. Raises what ended the download before that."""
        while start < end:
            ready = min(self._available, end)
            if ready > start:
                piece = await run_sync(os.pread, self._spool, min(CHUNK, ready - start), start)
                start += len(piece)
                yield piece
            elif self.error is not None:
                raise self.error
            else:
                await anyio.sleep(TICK)

    def _run(self) -> None:
        try:
            self._store(self._pieces())
            self._available = self._file.size
        except (HubError, StorageError, OSError) as error:
            _log.warning("%s was not taken from the upstream: %s", self._file.path, error)
            words = f"{self._file.path} could not be taken from the upstream: {error}"
            self.error = error if isinstance(error, HubError) else UpstreamFailed(words)
        except Exception as error:
            _log.error("a download from the upstream failed", exc_info=error)
            self.error = UpstreamFailed(f"{self._file.path} could not be taken from the upstream")
        finally:
            self.began.set()

    def _pieces(self) -> Iterator[bytes]:
        """Raises CorruptBlob at the end of other bytes than those that the upstream lists by their git sha1."""
        file, written, deadline = self._file, 0, time.monotonic() + MAX_SECONDS
        git = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
        with self._source() as pieces:
            for piece in pieces:
                if self._stopped or time.monotonic() > deadline:
                    raise UpstreamFailed(f"the download of {file.path} was stopped")
                _write(self._spool, piece)
                git.update(piece)
                written += len(piece)
                self._available = min(written, file.size - 1)
                self.began.set()
                yield piece
        if file.git_sha1 and git.hexdigest() != file.git_sha1:
            raise CorruptBlob(f"{file.path} has the git sha1 {git.hexdigest()}, expected {file.git_sha1}.")


def _write(descriptor: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]
