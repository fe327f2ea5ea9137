"""`report`: what a search found, also long after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hub.cli.output import JsonOption, Output, escape, table
from hub.cli.target import open_hub
from hub.errors import UsageError
from hub.home import Home
from hub.report.search_report import SearchReport, stored_report


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
        home = hub.workshop
        found = stored_report(home, search)
        if html is not None:
            write_report(out, home, found.uuid, html)
    contributions = {name: f"{gain:+.4f}" for name, gain in found.gains.items()}
    rows = [
        (name, f"{weight:+.4f}", contributions.get(name, "")) for name, weight in found.weights.items() if weight != 0
    ]
    losses = [(name, f"{loss:.4f}") for name, loss in found.candidates.items()]
    out.result(
        found.as_dict(),
        escape(found.verdict),
        "",
        table("", ("candidate", "loss"), losses, right=("loss",)),
        *(["", f"mixed by {escape(found.mixed_by)}"] if found.mixed_by else []),
        "",
        table("", ("adapter", "weight", "contribution"), rows, right=("weight", "contribution")),
        *(f"[dim]{escape(note)}[/]" for note in found.notes),
    )


def check_report_file(path: Path | None) -> None:
    """`UsageError` for a page that could not be written, before anything slow begins."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise UsageError(f"{path} cannot be written: its folder does not exist, or it is one", remedy="name a file")


def write_report(out: Output, home: Home, search: str, path: Path) -> SearchReport:
    """Write the page of a stored search, and say where."""
    from hub.report.page import write_page

    found = stored_report(home, search)
    write_page(found, path)
    out.say(f"report: {escape(str(path))}")
    return found
