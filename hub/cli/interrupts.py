"""Ctrl-C that is never lost.

Python raises KeyboardInterrupt wherever it happens to be. In a weakref callback or a finalizer it is only printed and
dropped, and in the middle of an import it can come out as another error; torch and transformers are imported for
seconds. So the wish to stop is also noted, for the places that ask for it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import NoReturn

import typer

INTERRUPTED = 130
_SHOW_CURSOR = b"\x1b[?25h\n"


class Interrupts:
    """While entered: the first Ctrl-C is noted and raised as KeyboardInterrupt, the second ends the process at once.

    Once Ctrl-C was pressed, every other error that leaves the block becomes KeyboardInterrupt. Does nothing outside the
    main thread, or where the process was started to ignore Ctrl-C.
    """

    def __init__(self) -> None:
        self._asked = False
        self._restore: list[Callable[[], object]] = []

    def asked(self) -> bool:
        """Whether Ctrl-C was pressed, even if its KeyboardInterrupt was lost."""
        return self._asked

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self._asked:
            raise KeyboardInterrupt

    def end(self) -> NoReturn:
        """Exit with 130. After a real Ctrl-C without Python's own ending: a thread that nobody stopped would keep the
        process alive, and an interrupted import of compiled code can turn the exit code into a death by signal."""
        if self._asked:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        raise typer.Exit(INTERRUPTED)

    def __enter__(self) -> Interrupts:
        former = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and former is not signal.SIG_IGN:
            hook = sys.unraisablehook
            self._restore = [
                lambda: signal.signal(signal.SIGINT, former),
                lambda: setattr(sys, "unraisablehook", hook),
            ]
            signal.signal(signal.SIGINT, self._handle)
            # a KeyboardInterrupt that Python drops would be shown as a traceback
            sys.unraisablehook = lambda lost: None if self._asked else hook(lost)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for restore in self._restore:
            restore()
        if self._asked and error is not None and not isinstance(error, KeyboardInterrupt | typer.Exit):
            raise KeyboardInterrupt from error

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            if sys.stderr.isatty():
                os.write(2, _SHOW_CURSOR)  # rich hides it while a bar is shown
            os._exit(INTERRUPTED)
        self._asked = True
        raise KeyboardInterrupt
