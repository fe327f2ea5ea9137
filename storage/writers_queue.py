"""One writer at a time, in the order of asking.

SQLite lets waiting writers poll, and whoever happens to ask at the right moment is next: with 64 clients some waited
for many seconds while others went by. The queue hands the turn over instead.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from storage.errors import DatabaseBusy


@dataclass(frozen=True, eq=False)
class _Ticket:
    writer: object
    thread: int
    called: threading.Event = field(default_factory=threading.Event)


class WritersQueue:
    """Of one process. A writer is any object; it may leave whether it has the turn, waits, or has left before."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._turn: _Ticket | None = None
        self._waiting: deque[_Ticket] = deque()

    def enter(self, writer: object, seconds: float) -> None:
        """Wait for the turn. Raises DatabaseBusy after `seconds`, RuntimeError where this thread would wait for itself.

        Whatever it raises, the writer has left; only where Python is interrupted afterwards must the caller see to it.
        """
        ticket = _Ticket(writer, threading.get_ident())
        with self._mutex:
            if self._turn is None:
                self._turn = ticket
                return
            if self._turn.thread == ticket.thread:
                raise RuntimeError("a transaction that writes was begun inside another one of the same thread")
            self._waiting.append(ticket)
        try:
            ticket.called.wait(max(seconds, 0))
        except BaseException:  # Ctrl-C
            self.leave(writer)
            raise
        with self._mutex:
            if self._turn is ticket:
                return
            self._waiting.remove(ticket)
        raise DatabaseBusy(f"Others have been writing to the database for {seconds:.0f} s.", remedy="Try again.")

    def has_turn(self, writer: object) -> bool:
        turn = self._turn
        return turn is not None and turn.writer is writer

    def leave(self, writer: object) -> None:
        """The end of a turn, which goes to whoever waits longest; or of waiting for one."""
        with self._mutex:
            if self._turn is None or self._turn.writer is not writer:
                self._waiting = deque(ticket for ticket in self._waiting if ticket.writer is not writer)
                return
            self._turn = self._waiting.popleft() if self._waiting else None
            if self._turn is not None:
                self._turn.called.set()
