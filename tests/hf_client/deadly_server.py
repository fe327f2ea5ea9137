"""`mixhub serve`, which dies as by kill -9 at one step of its work as soon as the file ARM exists.

python deadly_server.py ARM STEP WHEN serve --port 8000
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

import hub.hf.xet
from hub.cli.main import run
from storage import blob_records, revisions
from storage.blobs.local import LocalBlobs

STEPS: dict[str, tuple[Any, str]] = {
    "a xorb has arrived": (hub.hf.xet, "read_chunks"),
    "a blob gets its name": (LocalBlobs, "_settle"),
    "a blob is recorded": (blob_records, "record"),
    "a revision is made": (revisions, "create_revision"),
    "a transaction ends": (DefaultDialect, "do_commit"),
}


def main() -> None:
    arm, step, when = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    sys.argv[1:4] = []
    owner, name = STEPS[step]
    work = getattr(owner, name)

    def die() -> None:
        if arm.exists():
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(work)
    def deadly(*args: Any, **options: Any) -> Any:
        if when == "before":
            die()
        done = work(*args, **options)
        if when == "after":
            die()
        return done

    setattr(owner, name, deadly)
    run()


if __name__ == "__main__":
    main()
