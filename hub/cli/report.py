"""`report`: what a search found, also long after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hub.cli.output import JsonOption, Output, escape, facts_lines
from hub.cli.search_tables import search_tables
from hub.cli.target import open_hub
from hub.errors import UsageError
from hub.report.search_report import SearchReport


def register(app: typer.Typer) -> None:
    app.command()(report)


def report(
    search: Annotated[str, typer.Argument(metavar="ID", help="A search, by its id or the first 8 digits of it.")],
    *,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one self-contained HTML page.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Report a search: verdict, losses, weights and contributions; as a page with --html, all of it with --json."""
    out = Output(as_json=as_json)
    check_report_file(html)
    with open_hub() as hub:
        found = hub.report(search)
    if html is not None:
        write_report(out, found, html)
    out.result(
        found.as_dict(),
        escape(found.verdict),
        *(f"[yellow]note:[/] {escape(note)}" for note in found.notes),
        facts_lines({name.replace("_", " "): value for name, value in found.usage.items()}),
        "",
        *search_tables(found),
        f"[dim]{found.origin}[/]",
    )


def check_report_file(path: Path | None) -> None:
    """`UsageError` for a page that could not be written, before anything slow begins."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise UsageError(f"{path} cannot be written: its folder does not exist, or it is one", remedy="name a file")


def write_report(out: Output, found: SearchReport, path: Path) -> None:
    """Write the page of a search, and say where."""
    from hub.report.page import write_page

    write_page(found, path)
    out.say(f"report: {escape(str(path))}")
