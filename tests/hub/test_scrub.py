from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from hub import scrub
from hub.actions import uploads
from hub.home import Home
from hub.scrub import Scrub
from storage import accounts, damage, scrub_position
from storage.blobs import StoredBlob

FAST = 2**40


@pytest.fixture
def stored(home: Home) -> list[StoredBlob]:
    """Five blobs in the order of their digests."""
    blobs = [home.blobs.put_stream([bytes([number]) * 3_000_000]) for number in range(5)]
    with home.write() as session:
        tenant = accounts.ensure(session).id
    uploads.record(home, tenant, blobs)
    return sorted(blobs, key=lambda blob: blob.sha256)


def spoil(home: Home, blob: StoredBlob) -> Path:
    path = home.directory / "blobs" / blob.sha256[:2] / blob.sha256
    with path.open("r+b") as file:
        file.write(b"!")
    return path


def marked(home: Home) -> set[str]:
    with home.read() as session:
        return set(damage.unhealed(session))


def test_damage_is_marked_with_one_line_each_and_what_is_sound_again_is_not(
    home: Home, stored: list[StoredBlob], caplog: pytest.LogCaptureFixture
) -> None:
    before = home.blobs.read(stored[1].sha256)[:1]
    path = spoil(home, stored[1])
    (home.directory / "blobs" / stored[3].sha256[:2] / stored[3].sha256).unlink()
    for _ in range(2):
        Scrub(home, rate=FAST).go_on()
    assert marked(home) == {stored[1].sha256, stored[3].sha256}
    assert sorted(message[:69] for message in caplog.messages) == [f"blob {stored[i].sha256}" for i in (1, 3)]
    with path.open("r+b") as file:  # by hand, not by an upload
        file.write(before)
    Scrub(home, rate=FAST).go_on()
    assert marked(home) == {stored[3].sha256}


def test_a_stopped_round_goes_on_after_the_blob_that_it_had_begun(
    home: Home, stored: list[StoredBlob], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    verify = home.blobs.verify
    first = Scrub(home, rate=FAST)

    def noting(sha256: str, **more: object) -> None:
        looked.append(sha256)
        if len(looked) == 3:
            first._stopped.set()
        verify(sha256, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(home.blobs, "verify", noting)
    first.go_on()
    with home.read() as session:
        position = scrub_position.read(session)
    assert position is not None and position.after == stored[2].sha256
    again = Scrub(home, rate=FAST)
    assert again._is_due()
    again.go_on()
    assert looked == [blob.sha256 for blob in stored]
    assert not again._is_due()  # the round is over, and the next one is for tomorrow


@pytest.mark.usefixtures("stored")
def test_it_keeps_to_its_rate_and_stops_at_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "FIRST", 0.0)
    waits: list[float] = []
    begun = threading.Event()
    slow = Scrub(home, rate=1000)
    wait = slow._stopped.wait

    def noting(seconds: float) -> bool:
        waits.append(seconds)
        begun.set()
        return wait(seconds)

    monkeypatch.setattr(slow._stopped, "wait", noting)
    slow.start()
    assert begun.wait(10)
    while len(waits) < 2:
        time.sleep(0.01)
    assert waits[1] == scrub.LEAST / 1000  # a minute for the least blob: it is in the middle of waiting
    slow.stop()
    assert not slow._thread.is_alive()
    with home.write() as session:  # nothing of it holds the database
        scrub_position.save(session, scrub_position.Position("", scrub.utc_now()))


def test_no_transaction_is_open_while_it_reads(
    home: Home, stored: list[StoredBlob], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    verify = home.blobs.verify

    def noting(sha256: str, **more: object) -> None:
        held.append(home.engine.pool.checkedout())  # type: ignore[attr-defined]
        verify(sha256, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(home.blobs, "verify", noting)
    Scrub(home, rate=FAST).go_on()
    assert held == [0] * len(stored)
