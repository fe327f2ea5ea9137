"""Finds out what a release before this one did not note: card and tags of revisions from before there was a server."""

from __future__ import annotations

from typing import Any

from hub.actions.record_content import record_summary
from hub.errors import BadUpload
from hub.home import Home
from hub.revision_content import on_disk
from hub.summary import CARD, card_data
from storage import revisions, summaries
from storage.errors import DamagedBlob
from storage.revisions import File

BATCH = 100
"""Revisions per transaction."""


def backfill(home: Home) -> int:
    """Note card and tags of every revision that nobody looked at; returns how many. Safe to repeat and to interrupt."""
    done = 0
    while True:
        with home.read() as session:
            waiting = summaries.unseen(session, limit=BATCH)
            found = [(revision, revisions.file_at(session, revision, CARD)) for revision in waiting]
        if not found:
            return done
        cards = [(revision, _card(home, file)) for revision, file in found]
        with home.write() as session:
            for revision, card in cards:
                record_summary(session, revision, card=card)
        done += len(cards)


def _card(home: Home, file: File | None) -> dict[str, Any]:
    """Empty also for a card that no one can read: it was taken as it is at the time, or is damaged by now."""
    if file is None:
        return {}
    try:
        with on_disk(home, [file], names={file.path: CARD}) as folder:
            return card_data(folder)
    except (BadUpload, DamagedBlob):
        return {}
