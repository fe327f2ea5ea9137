"""Runs `mixhub` in forked processes, servers and commands alike, so that a start costs a fork and not three seconds.

Reads one JSON order a line on stdin, writes one JSON event a line on stdout. {"start": key, "words": [...], "env":
{...}, "out": file, "err": file} begins a process. With `deadly`: {"arm": file, "step": ..., "when": "before" or
"after"} it dies as by kill -9 at a step of its work, as soon as that file exists. {"kill": key} is kill -9 now.
{"ended": key, "code": ...} says that a process is gone. At the end of stdin all are killed.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

import hub.hf.lfs
import hub.hf.xet
from storage import aliases, blob_records, repos, revisions, versions
from storage.blobs.local import LocalBlobs

LOADED_FIRST = (
    "compose.peft_files", "hub.actions.database", "hub.actions.find", "hub.actions.publish", "hub.actions.pull",
    "hub.app", "hub.cli.commands", "hub.cli.serve", "hub.client", "hub.local_hub", "hub.serving",
)  # fmt: skip

STEPS: dict[str, tuple[Any, str]] = {
    "a xorb has arrived": (hub.hf.xet, "read_chunks"),
    "a file is rebuilt": (hub.hf.xet, "_rebuild"),
    "an LFS file is stored": (hub.hf.lfs, "_store"),
    "a blob gets its name": (LocalBlobs, "_settle"),
    "a blob is recorded": (blob_records, "record"),
    "a revision is made": (revisions, "create_revision"),
    "an alias moves": (aliases, "promote"),
    "a version goes": (versions, "delete"),
    "a repo goes": (repos, "delete"),
    "a blob goes": (LocalBlobs, "delete"),
    "a leftover goes": (LocalBlobs, "delete_leftover"),
    "a transaction ends": (DefaultDialect, "do_commit"),
}


def make_deadly(arm: str, step: str, when: str) -> None:
    owner, name = STEPS[step]
    work = getattr(owner, name)

    def die() -> None:
        if Path(arm).exists():
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


def child(order: dict[str, Any]) -> int:
    """The whole life of a process; its exit code."""
    from hub.cli.main import run

    for number, (path, flags) in enumerate(
        ((os.devnull, os.O_RDONLY), (order["out"], os.O_WRONLY), (order["err"], os.O_WRONLY))
    ):
        file = os.open(path, flags | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
        os.close(file)
    for name in [name for name in os.environ if name.startswith("MIXHUB_")]:
        del os.environ[name]
    os.environ.update(order["env"])
    if order.get("deadly"):
        make_deadly(**order["deadly"])
    sys.argv = ["mixhub", *order["words"]]
    try:
        run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def start(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = child(order)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def say(**event: Any) -> None:
    print(json.dumps(event), flush=True)


def main() -> None:
    for name in LOADED_FIRST:
        importlib.import_module(name)
    running: dict[str, int] = {}
    say(ready=True)
    waiting = b""
    while True:
        if select.select([0], [], [], 0.003)[0]:
            piece = os.read(0, 1 << 16)
            if not piece:
                break
            *lines, waiting = (waiting + piece).split(b"\n")
            for order in map(json.loads, lines):
                if "start" in order:
                    running[order["start"]] = start(order)
                elif order["kill"] in running:  # not reaped yet, so the number is still its own
                    os.kill(running[order["kill"]], signal.SIGKILL)
        for key, pid in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del running[key]
                say(ended=key, code=os.waitstatus_to_exitcode(status))
    for pid in running.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
