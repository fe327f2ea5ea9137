"""Backs up or restores in forked processes, each of which ends itself at one step, as the power button would.

`deadly_backup.py WHAT HOME FOLDER STEPS`: for each n of the list STEPS `FOLDER/n` is made by a process that is killed
at its n-th step; WHAT is "backup" (of HOME into FOLDER/n) or "restore" (of the backup HOME into FOLDER/n). Prints the
exit statuses; a process that has no such step any more ends with 0.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub.actions.backup import back_up
from hub.actions.restore import restore
from hub.settings import Settings
from storage.blobs.local import LocalBlobs


def settings_of(folder: Path) -> Settings:
    return Settings(home=folder, database_url="", blobs_url="")


def die_at(step: int) -> None:
    """Steps are renames, deletions and blobs that get their names; each has a before and an after."""
    seen = itertools.count()

    def counting(work: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            for when in ("before", "after"):
                if next(seen) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                if when == "before":
                    done = work(*args, **options)
            return done

        return counted

    for owner, name in ((Path, "rename"), (Path, "replace"), (LocalBlobs, "_settle"), (LocalBlobs, "delete")):
        setattr(owner, name, counting(getattr(owner, name)))


def child(what: str, home: Path, folder: Path) -> None:
    back_up(settings_of(home), folder) if what == "backup" else restore(settings_of(folder), home)


def main() -> None:
    what, home, folder, steps = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
    statuses = []
    for step in steps:
        pid = os.fork()
        if pid == 0:
            try:
                die_at(step)
                child(what, home, folder / str(step))
                os._exit(0)
            except BaseException as error:
                print(repr(error), file=sys.stderr)
                os._exit(1)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(json.dumps(statuses))


if __name__ == "__main__":
    main()
