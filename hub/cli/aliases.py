"""`promote`, `rollback` and `history`: movable names such as `prod`, whose every move is kept."""

from __future__ import annotations

from typing import Annotated

import typer

from hub.cli.output import JsonOption, Output, table
from hub.cli.target import open_hub

RepoArgument = Annotated[str, typer.Argument(metavar="NS/NAME", help="A repo's address.")]


def register(app: typer.Typer) -> None:
    app.command()(promote)
    app.command()(rollback)
    app.command()(history)
    app.command()(protect)


def promote(
    address: Annotated[str, typer.Argument(metavar="NS/NAME@REV", help="What the alias shall name from now on.")],
    alias: Annotated[str, typer.Argument(help="For example prod or staging.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a revision: mixhub promote team/sql@v7 prod"""
    out = Output(as_json=as_json)
    with open_hub() as hub:
        move = hub.promote(address, alias)
    out.result(move.as_dict(), f"{move.alias} -> {move.label}")


def rollback(address: RepoArgument, alias: Annotated[str, typer.Argument()], *, as_json: JsonOption = False) -> None:
    """Point an alias back at what it named before its last promotion."""
    out = Output(as_json=as_json)
    with open_hub() as hub:
        move = hub.rollback(address, alias)
    out.result(move.as_dict(), f"{move.alias} -> {move.label}")


def history(
    address: RepoArgument,
    alias: Annotated[str, typer.Argument(help="An alias; default: all of the repo's.")] = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """Every move of a repo's aliases, oldest first."""
    out = Output(as_json=as_json)
    with open_hub() as hub:
        moves = hub.history(address, alias)
    rows = [(m.alias, m.seq, m.action, m.label, m.actor, m.created_at) for m in moves]
    out.result([m.as_dict() for m in moves], table("", ("alias", "move", "what", "now", "by", "when"), rows))


def protect(
    address: RepoArgument,
    alias: Annotated[str, typer.Argument()],
    *,
    role: Annotated[str, typer.Option("--role", help="write or admin.")] = "admin",
    as_json: JsonOption = False,
) -> None:
    """Let only this role and above move an alias through a server."""
    out = Output(as_json=as_json)
    with open_hub() as hub:
        hub.protect(address, alias, role)
    out.result({"alias": alias, "role": role}, f"{alias} of {address} moves for the role {role} and above")
