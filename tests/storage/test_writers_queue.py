from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from storage.errors import DatabaseBusy
from storage.writers_queue import WritersQueue


@pytest.fixture
def queue() -> WritersQueue:
    return WritersQueue()


def ask(queue: WritersQueue, writer: str, served: list[str]) -> threading.Thread:
    """A thread that stands in the queue when this returns, and leaves it at once when it has been served."""

    def run() -> None:
        queue.enter(writer, 60)
        served.append(writer)
        queue.leave(writer)

    before = len(queue._waiting)
    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: len(queue._waiting) == before + 1)
    return thread


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_writers_are_served_in_the_order_of_asking(queue: WritersQueue) -> None:
    queue.enter("first", 1)
    served: list[str] = []
    threads = [ask(queue, f"{number}", served) for number in range(20)]
    queue.leave("first")
    for thread in threads:
        thread.join()
    assert served == [f"{number}" for number in range(20)]
    assert not queue.has_turn("19")


def test_whoever_waits_too_long_is_told_so_and_the_others_go_on(queue: WritersQueue) -> None:
    served: list[str] = []
    queue.enter("first", 1)
    with pytest.raises(DatabaseBusy, match="0 s") as caught:
        in_a_thread(lambda: queue.enter("impatient", 0.01))
    assert caught.value.remedy
    patient = ask(queue, "patient", served)
    queue.leave("impatient")  # has left already
    assert queue.has_turn("first")
    queue.leave("first")
    patient.join()
    assert served == ["patient"]


def test_a_thread_does_not_wait_for_itself(queue: WritersQueue) -> None:
    queue.enter("outer", 60)
    with pytest.raises(RuntimeError, match="inside another one"):
        queue.enter("inner", 60)
    queue.leave("outer")
    queue.enter("next", 0)


def test_ctrl_c_while_waiting_leaves_the_queue(queue: WritersQueue) -> None:
    in_a_thread(lambda: queue.enter("first", 1))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            queue.enter("interrupted", 60)
    finally:
        signal.signal(signal.SIGALRM, former)
    queue.leave("first")
    queue.enter("next", 0)
    assert queue.has_turn("next")


def in_a_thread(work: Callable[[], Any]) -> None:
    """Run to the end in another thread; what it raises is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
