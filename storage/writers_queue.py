"""One writer at a time, in the order of asking.

SQLite lets waiting writers poll, and whoever happens to ask at the right moment is next: with 64 clients some waited
30 s and gave up. The queue hands its lock over instead, so that nobody who came later is served earlier.
"""

from __future__ import annotations

import threading
from collections import deque

from storage.errors import DatabaseBusy


class WritersQueue:
    """Of the threads of one process. A thread that writes may not ask for a second turn: it would wait for itself."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._writer: int | None = None
        self._waiting: deque[tuple[int, threading.Lock]] = deque()

    def enter(self, seconds: float) -> None:
        """Wait for one's turn. Raises DatabaseBusy after `seconds`, RuntimeError where this thread has the turn."""
        me, called = threading.get_ident(), threading.Lock()
        with self._mutex:
            if self._writer is None:
                self._writer = me
                return
            if self._writer == me:
                raise RuntimeError("a transaction that writes was begun inside another one of the same thread")
            called.acquire()
            self._waiting.append((me, called))
        try:
            if called.acquire(timeout=max(seconds, 0)):
                return
        except BaseException:  # Ctrl-C
            if not self._forget(me):
                self.leave()
            raise
        if self._forget(me):
            raise DatabaseBusy(f"Others have been writing to the database for {seconds:.0f} s.", remedy="Try again.")
        # called in the last moment

    def leave(self) -> None:
        """Hand the turn to whoever waits longest."""
        with self._mutex:
            self._writer = None
            if self._waiting:
                self._writer, called = self._waiting.popleft()
                called.release()

    def _forget(self, thread: int) -> bool:
        """Take a thread out of the queue; False: it has been called already."""
        with self._mutex:
            found = [entry for entry in self._waiting if entry[0] == thread]
            for entry in found:
                self._waiting.remove(entry)
        return bool(found)
