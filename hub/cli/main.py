"""The `mixhub` command: exit codes and errors. Commands translate; they never catch domain errors: this does, once.

What the commands need is imported by `run`, not by this file: a Ctrl-C may come while it is.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compose.errors import ComposeError
    from hub.errors import HubError
    from storage.errors import StorageError

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def run() -> None:
    """Entry point: exit code 1 when something failed, 2 when it was asked for wrongly, 130 on Ctrl-C."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the bars of transformers would cut through ours
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a Ray that --ray starts reports to nobody
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of kernels that nobody asked for
    try:
        _run_commands()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)


def _run_commands() -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from compose.errors import BadExamples, BadMethod, BadWeights, ComposeError, SearchError
    from hub.errors import HubError, UsageError
    from storage.cannot_store import meaning_of
    from storage.errors import InvalidName, StorageError

    try:
        _run_app()
    except (UsageError, InvalidName, BadWeights, BadMethod, BadExamples, SearchError) as error:
        _report(error)
        sys.exit(USAGE)
    except (HubError, ComposeError, StorageError) as error:
        _report(error)
        sys.exit(FAILED)
    except (OSError, SQLAlchemyError) as error:
        what = "the database failed" if isinstance(error, SQLAlchemyError) else "failed"
        remedy = meant.remedy if (meant := meaning_of(error)) else ""
        _report(HubError(f"{what}: {getattr(error, 'orig', None) or error}", remedy=remedy))
        sys.exit(FAILED)


def _run_app() -> None:
    """Typer prints its own usage errors for people; with --json they are documents as all others are."""
    import typer

    from hub.cli.commands import app_for
    from hub.errors import UsageError

    app = app_for(_command())
    if "--json" not in sys.argv:
        app()
    try:
        sys.exit(app(standalone_mode=False))  # what a command gives back: None, or the code of typer.Exit
    except typer.TyperException as error:
        raise UsageError(error.format_message()) from error


def _report(error: HubError | ComposeError | StorageError) -> None:
    remedy = error.remedy or f"mixhub {_command()} --help"
    if "--json" in sys.argv:
        document = {"error": type(error).__name__, "message": error.message, "remedy": remedy}
        sys.stderr.write(json.dumps(document, ensure_ascii=False) + "\n")
        return
    from rich.console import Console

    from hub.cli.output import escape

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[red]error:[/] {escape(error.message)}")
    console.print(f"  [dim]try:[/] {escape(remedy)}")


def _command() -> str:
    """The first word of the command line that is no global option."""
    words = iter(sys.argv[1:])
    for word in words:
        if word == "--url":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


if __name__ == "__main__":
    run()
