"""The commands of `mixhub` by the modules that hold them, and the global options. Only what is called is imported."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from types import MappingProxyType
from typing import Annotated

import typer

from hub.cli import target

COMMANDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "adapters": ("publish", "pull", "ls", "show", "delete"),
        "compose": ("compose",),
        "search": ("search",),
        "report": ("report",),
        "verify": ("verify",),
        "bench": ("bench",),
        "export": ("export",),
        "aliases": ("promote", "rollback", "history", "protect"),
        "bases": ("base",),
        "database": ("db",),
        "backup": ("backup", "restore"),
        "serve": ("serve", "login"),
        "accounts": ("user", "org", "token"),
        "demo": ("demo",),
        "reproduce": ("reproduce",),
    }
)
"""Module -> its commands, in the order of --help."""


def app_for(command: str = "") -> typer.Typer:
    """The app with the commands of the module that has `command`; with all where that is none of them."""
    app = typer.Typer(
        name="mixhub",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="A hub for LoRA adapters that also mixes them: "
        "publish, compose, search weights without gradients, export.",
    )
    app.callback()(_root)
    for module in [name for name, held in COMMANDS.items() if command in held] or COMMANDS:
        import_module(f"hub.cli.{module}").register(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mixhub {version('mixhub')}")
        raise typer.Exit


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
