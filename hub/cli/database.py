"""`db upgrade`, `db check` and `db gc`: the home itself."""

from __future__ import annotations

from typing import Annotated

import typer

from hub.actions import database as database_actions
from hub.cli.output import JsonOption, Output, table
from hub.cli.target import own_home
from hub.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="The home's database and blobs.")


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="db")


@app.command()
def upgrade(*, as_json: JsonOption = False) -> None:
    """Bring the schema to this program's version. Safe to repeat, and to run from several processes."""
    out = Output(as_json=as_json)
    head = database_actions.upgrade(own_home("db"))
    out.result({"schema": head}, f"schema {head}")


@app.command()
def check(
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Also read every blob and recompute its digest.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put the bytes of damaged blobs again, from --from or MIXHUB_UPSTREAM.")
    ] = False,
    sources: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="PLACE", help="Another home or a backup to repair from; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that schema, rows and blobs agree. Exit code 1 when something is wrong, and not repaired."""
    out = Output(as_json=as_json)
    if sources and not repair:
        raise UsageError("--from says where to repair from", remedy="mixhub db check --deep --repair --from PLACE")
    report = database_actions.check(own_home("db"), deep=deep, repair=repair, sources=sources or ())
    rows = [("repaired", f"blob {sha256}") for sha256 in report.repaired]
    rows += [("problem", p) for p in report.problems] + [("note", n) for n in report.notes]
    summary = "[red]not consistent[/]" if report.problems else "[green]consistent[/]"
    text = [table("", ("kind", "what"), rows)] if rows else []
    out.result(report.as_dict(), *text, f"{summary}  [dim]{report.location}[/]")
    if report.problems:
        raise typer.Exit(1)


@app.command()
def gc(
    *,
    older_than: Annotated[float, typer.Option(min=0, help="Spare what is younger than this many hours.")] = 24.0,
    with_upstream: Annotated[
        bool, typer.Option("--upstream", help="Also what was fetched from the hub that MIXHUB_UPSTREAM names.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove leftovers of interrupted uploads and blobs that no revision uses."""
    out = Output(as_json=as_json)
    removed = database_actions.collect_garbage(own_home("db"), hours=older_than, with_upstream=with_upstream)
    out.result({"removed_blobs": removed}, f"removed {removed} blobs and leftovers")
