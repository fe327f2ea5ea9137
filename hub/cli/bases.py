"""`base add` and `base ls`: base models by identity, and the names they are known by."""

from __future__ import annotations

from typing import Annotated

import typer

from hub.actions import bases as base_actions
from hub.cli.output import JsonOption, Output, table
from hub.cli.target import own_home
from hub.home import open_home

app = typer.Typer(no_args_is_help=True, help="Base models: identities and their names.")


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="base")


@app.command()
def add(
    base: Annotated[str, typer.Argument(metavar="PATH_OR_NAME", help="A folder with config.json and safetensors.")],
    *,
    known_as: Annotated[
        list[str] | None,
        typer.Option(help="Another name of the same base: a mirror, a path, a 4-bit variant; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a base model known, and add names to it. Adapters that name any of them are bound to it when published."""
    out = Output(as_json=as_json)
    with open_home(own_home("base")) as home:
        known = base_actions.add(home, base, known_as=known_as or ())
    out.result(known.as_dict(), f"{known.identity[:12]}  {', '.join(known.names)}")


@app.command("ls")
def list_bases(*, as_json: JsonOption = False) -> None:
    """List the base models of this home."""
    out = Output(as_json=as_json)
    with open_home(own_home("base")) as home:
        known = base_actions.list_all(home)
    rows = [(b.identity[:12], b.model_type, f"{b.parameter_count:,}", b.adapters, ", ".join(b.names)) for b in known]
    columns = ("identity", "type", "parameters", "adapters", "names")
    out.result([b.as_dict() for b in known], table("", columns, rows, right=("parameters", "adapters")))
