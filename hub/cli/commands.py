"""All commands of `mixhub` with the global options. Importing them takes a while: `main.py` does so when it is run."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

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
