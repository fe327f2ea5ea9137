"""The `mixhub` command. Commands translate; they never catch domain errors: `run` does, once, for all of them."""

from __future__ import annotations

import json
import logging
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from compose.errors import BadExamples, BadMethod, BadWeights, ComposeError, SearchError
from hub.cli import (
    accounts,
    adapters,
    aliases,
    bases,
    bench,
    compose,
    database,
    demo,
    export,
    report,
    reproduce,
    search,
    serve,
    target,
    verify,
)
from hub.cli.output import escape
from hub.errors import HubError, UsageError
from storage.errors import InvalidName, StorageError

FAILED, USAGE, INTERRUPTED = 1, 2, 130
_USAGE_ERRORS = (UsageError, InvalidName, BadWeights, BadMethod, BadExamples, SearchError)

app = typer.Typer(
    name="mixhub",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A hub for LoRA adapters that also mixes them: publish, compose, search weights without gradients, export.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mixhub {version('mixhub')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    url: Annotated[
        str, typer.Option(metavar="URL", help="Act on this server instead of the home; default: MIXHUB_URL.")
    ] = "",
) -> None:
    """Global options come before the command."""
    target.choose(url)


for module in (
    adapters,
    compose,
    search,
    report,
    verify,
    bench,
    export,
    aliases,
    bases,
    database,
    serve,
    accounts,
    demo,
    reproduce,
):
    module.register(app)


def run() -> None:
    """Entry point: exit code 1 when something failed, 2 when it was asked for wrongly, 130 on Ctrl-C."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the bars of transformers would cut through ours
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a Ray that --ray starts reports to nobody
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of kernels that nobody asked for
    try:
        _run_app()
    except _USAGE_ERRORS as error:
        _report(error)
        sys.exit(USAGE)
    except (HubError, ComposeError, StorageError) as error:
        _report(error)
        sys.exit(FAILED)
    except (OSError, SQLAlchemyError) as error:
        what = "the database failed" if isinstance(error, SQLAlchemyError) else "failed"
        _report(HubError(f"{what}: {getattr(error, 'orig', None) or error}"))
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)


def _run_app() -> None:
    """Typer prints its own usage errors for people; with --json they are documents as all others are."""
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
