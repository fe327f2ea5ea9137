"""Publishes in forked processes, so that tests can kill or race many of them at the price of one start.

Reads one JSON job a line on stdin, answers with the exit statuses of its processes on stdout. A job: `home`, `folder`,
`addresses` (one process for each), and for a kill either `delay` (seconds) or `step` and `when` ("before", "after").
Or `home` and `commands`, each a list of words of the command line; these run one after the other, and what they say
goes to stderr.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

import compose.peft_files  # noqa: F401, loaded once, before the forks
from hub.actions.publish import publish
from hub.address import parse_address
from hub.cli.commands import app_for
from hub.cli.main import run
from hub.home import open_home
from hub.settings import Settings
from storage import adapters, blob_records, refs, repos, revisions, versions
from storage.blobs.local import LocalBlobs

STEPS: dict[str, tuple[Any, str]] = {
    "put_file": (LocalBlobs, "put_file"),
    "rename": (LocalBlobs, "_settle"),
    "record": (blob_records, "record"),
    "create_repo": (repos, "create"),
    "create_revision": (revisions, "create_revision"),
    "create_branch": (refs, "create_branch"),
    "record_facts": (adapters, "record_facts"),
    "give_version": (versions, "give"),
    "commit": (DefaultDialect, "do_commit"),
}


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(step: str, when: str) -> None:
    """Let the step end this process, as the power button would, before or after its work."""
    owner, name = STEPS[step]
    work: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(work)
    def deadly(*args: Any, **options: Any) -> Any:
        if when == "before":
            die()
        done = work(*args, **options)
        die()
        return done

    setattr(owner, name, deadly)


def child(job: dict[str, Any], address: str) -> None:
    with open_home(Settings(home=Path(job["home"]), database_url="", blobs_url="")) as home:
        if "step" in job:
            kill_at(job["step"], job["when"])
        publish(home, Path(job["folder"]), parse_address(address))


def start(job: dict[str, Any], address: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        child(job, address)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@functools.cache
def load_commands() -> None:
    """What commands load while they run, once, before the forks."""
    import alembic.autogenerate
    import transformers

    app_for()
    assert alembic.autogenerate and transformers.T5ForConditionalGeneration


def command(home: str, words: list[str]) -> int:
    """The exit code of `mixhub WORDS` in a process of its own."""
    load_commands()
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code: object = 1
    try:
        os.dup2(2, 1)
        os.environ["MIXHUB_HOME"] = home
        sys.argv = ["mixhub", *words]
        run()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 1)


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        if "commands" in job:
            print(json.dumps([command(job["home"], words) for words in job["commands"]]), flush=True)
            continue
        pids = [start(job, address) for address in job["addresses"]]
        if "delay" in job:
            time.sleep(job["delay"])
            for pid in pids:
                os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(statuses), flush=True)


if __name__ == "__main__":
    main()
