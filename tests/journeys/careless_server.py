"""`mixhub serve` in whose process something opens and closes the files of the database at every SIGUSR1.

So SQLite's locks of the server are gone, and every other process believes to be alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

from hub.cli.main import run


def drop_the_locks(*_: object) -> None:
    libc = ctypes.CDLL(None)
    for file in sorted(Path(os.environ["MIXHUB_HOME"]).glob("mixhub.sqlite*")):
        libc.close(libc.open(bytes(file), os.O_RDONLY))


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, drop_the_locks)
    run()
