"""Does operations of the registry in forked processes that die in the middle, as by the power button.

Reads one JSON job a line on stdin: `home`, `op`, and `events`: how many of the steps below may begin or end before the
process dies. Answers with its exit status: -9 killed, 0 it was done before, 3 it was refused, 1 something else.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

import compose.peft_files  # noqa: F401, loaded once, before the forks
from hub.errors import HubError
from hub.home import open_home
from storage import adapters, blob_records, refs, repos, revisions, summaries, tombstones
from storage.backups import BackupFolder
from storage.blobs.local import LocalBlobs
from storage.errors import StorageError
from tests.journeys.registry.verbs import perform, settings_of

REFUSED = 3
STEPS: tuple[tuple[Any, str], ...] = (
    (LocalBlobs, "_settle"),
    (LocalBlobs, "delete"),
    (LocalBlobs, "delete_leftover"),
    (blob_records, "record"),
    (repos, "create"),
    (revisions, "create_revision"),
    (refs, "add"),
    (refs, "remove"),
    (refs, "move_branch"),
    (tombstones, "bury"),
    (adapters, "record_facts"),
    (summaries, "record"),
    (DefaultDialect, "do_commit"),
    (BackupFolder, "incoming"),
    (BackupFolder, "finish"),
    (BackupFolder, "prune"),
    (BackupFolder, "database"),
)


def die_after(events: int) -> None:
    """Count the beginnings and ends of steps; the one with this number, from 0, ends the process."""
    count = itertools.count()

    def event() -> None:
        if next(count) == events:
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly(work: Any) -> Any:
        @functools.wraps(work)
        def step(*args: Any, **options: Any) -> Any:
            event()
            done = work(*args, **options)
            event()
            return done

        return step

    for owner, name in STEPS:
        setattr(owner, name, deadly(getattr(owner, name)))


def child(job: dict[str, Any]) -> int:
    with open_home(settings_of(Path(job["home"]))) as home:
        die_after(job["events"])
        try:
            perform(home, job["op"])
        except (HubError, StorageError):
            return REFUSED
    return 0


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                status = child(json.loads(line))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), flush=True)


if __name__ == "__main__":
    main()
