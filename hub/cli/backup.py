"""`backup` and `restore`: all of a home in a folder, and a home from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from hub.actions import backup as backup_action
from hub.actions import restore as restore_action
from hub.cli.interrupts import Interrupts
from hub.cli.output import JsonOption, Output, escape
from hub.cli.target import own_home


def register(app: typer.Typer) -> None:
    app.command()(backup)
    app.command()(restore)


def backup(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, or that of a backup, which is brought up to date.")
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Copy the home to DIR while it is used: databases, and the blobs that DIR does not have yet. All is verified."""
    out = Output(as_json=as_json)
    with _shown(out, f"mixhub backup {directory}") as progress:
        done = backup_action.back_up(own_home("backup"), directory, on_progress=progress)
    for note in done.notes:
        out.warn(note)
    held = f"{len(done.manifest.blobs)} blobs, {decimal(done.manifest.blob_bytes)}"
    changes = f"{done.copied} copied, {done.removed} removed"
    out.result(done.as_dict(), f"{escape(str(directory))}  [dim]{held}; {changes}; {done.manifest.made_at}[/]")


def restore(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `mixhub backup DIR` has made.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make the home that MIXHUB_HOME names, which does not exist or is empty, from the backup in DIR."""
    out = Output(as_json=as_json)
    with _shown(out, f"mixhub restore {directory}") as progress:
        done = restore_action.restore(own_home("restore"), directory, on_progress=progress)
    held = f"{len(done.manifest.blobs)} blobs, {decimal(done.manifest.blob_bytes)}"
    out.result(done.as_dict(), f"{escape(str(done.directory))}  [dim]{held}; as of {done.manifest.made_at}[/]")


@contextmanager
def _shown(out: Output, command: str) -> Iterator[backup_action.Progress]:
    """A bar on stderr while the block runs. Ctrl-C ends it; what was copied stays, and the same command goes on."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    hidden = out.as_json or not out.stderr.is_terminal
    try:
        with Interrupts() as interrupts, Progress(*columns, console=out.stderr, disable=hidden, transient=True) as bar:
            task = bar.add_task("database", total=None)

            def show(what: str, done: int, total: int) -> None:
                interrupts.check()
                bar.update(task, description=what, completed=done, total=total or None)

            yield show
    except KeyboardInterrupt:
        out.say(f"to go on: {escape(command)}")
        raise
