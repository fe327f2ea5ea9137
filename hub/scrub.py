"""Reads all blobs in the background, slowly and over and over, so that damage is found while it can still be repaired.

Blobs are taken in the order of their sha256; how far a round has come is in the database, so a restart goes on there.
What is found is marked (`storage.damage`), with one line in the log, and asked for again by the next upload.
"""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

from hub.home import Home
from storage import damage, scrub_position
from storage.clock import utc_now
from storage.errors import CannotStore, DamagedBlob
from storage.scrub_position import Position

_log = logging.getLogger("mixhub")

FIRST = 60.0
"""Seconds after the start, in which the server has other things to do."""
ROUND = timedelta(days=1)
"""A round begins no sooner than this after the one before."""
BATCH = 100
"""Blobs listed at once."""
LEAST = 64 * 1024
"""Bytes that a blob counts for at least: opening it is work too."""
SAVE_SECONDS = 30.0
"""Between two notes of the position; a kill in between means that blobs are read twice."""


class Scrub:
    """A thread from `start` to `stop`. `rate`: bytes a second, on average."""

    def __init__(self, home: Home, *, rate: int) -> None:
        self._home, self._rate = home, rate
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when nothing of it reads or writes any more; that takes as long as reading one piece."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def go_on(self) -> None:
        """Look at the blobs that this round has not come to yet. Returns at its end, or when stopped."""
        with self._home.read() as session:
            position = scrub_position.read(session)
        if position is None or position.after == "":
            position = Position("", utc_now())
        saved = utc_now()
        try:
            while True:
                with self._home.read() as session:
                    listed = scrub_position.following(session, position.after, limit=BATCH)
                    marked = damage.found(session, (sha256 for sha256, _ in listed))
                if not listed:
                    position = Position("", position.round_began_at)
                    return
                for sha256, size in listed:
                    # noted as it begins: a blob that takes longer than the server runs must not stop the round for ever
                    position = Position(sha256, position.round_began_at)
                    self._look(sha256, size, is_marked=sha256 in marked)
                    if utc_now() - saved > timedelta(seconds=SAVE_SECONDS):
                        self._save(position)
                        saved = utc_now()
        except _Stopped:
            return
        finally:
            self._save(position)

    def _run(self) -> None:
        wait = FIRST
        while not self._stopped.wait(wait):
            try:
                if self._is_due():
                    self.go_on()
                wait = FIRST
            except CannotStore:  # how far it came cannot be noted: without this it would read all blobs each minute
                wait = ROUND.total_seconds()
            except Exception as error:  # the database or the store is away; nothing of it may end the server
                _log.warning("the scrub of the blobs was interrupted: %s", error)
                wait = FIRST

    def _is_due(self) -> bool:
        with self._home.read() as session:
            position = scrub_position.read(session)
        return position is None or position.after != "" or utc_now() - position.round_began_at >= ROUND

    def _look(self, sha256: str, size: int, *, is_marked: bool) -> None:
        """Outside of any transaction."""
        self._pause(LEAST)
        try:
            self._home.blobs.verify(sha256, size=size, each=self._pause)
        except DamagedBlob:
            return  # the store has told of it
        if is_marked:
            with self._home.write() as session:
                damage.heal(session, [sha256])

    def _pause(self, read: int) -> None:
        if self._stopped.wait(read / self._rate):
            raise _Stopped

    def _save(self, position: Position) -> None:
        with self._home.write() as session:
            scrub_position.save(session, position)


class _Stopped(Exception):
    pass
