"""`report`: what a search found, also long after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from hub.cli.method_table import method_lines
from hub.cli.output import JsonOption, Output, escape, table
from hub.cli.target import open_hub
from hub.errors import UsageError
from hub.few_shot_score import span
from hub.home import Home
from hub.report.search_report import SearchReport, stored_report

COLUMNS = ("candidate", "loss", "90 % interval")


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
        (name, *(f"{weight:+.4f}" for weight in weights), contributions.get(name, ""))
        for name, weights in found.group_weights.items()
        if any(weights)
    ]
    columns = (*(found.groups or ("weight",)), "contribution")
    intervals = found.intervals
    losses = [(name, f"{loss:.4f}", span(intervals.get(name))) for name, loss in found.candidates.items()]
    estimates = [(str(one["name"]), _shown(one["loss"]), _ends(one["low"], one["high"])) for one in found.held_out]
    held_out: list[RenderableType] = []
    if estimates:
        held_out = [table("held-out loss", COLUMNS, estimates, right=COLUMNS[1:]), ""]
    out.result(
        found.as_dict(),
        escape(found.verdict),
        "",
        table("few-shot loss", COLUMNS, losses, right=COLUMNS[1:]),
        "",
        *method_lines(found.mixed_by, found.methods),
        *held_out,
        table("", ("adapter", *columns), rows, right=columns),
        *(f"[dim]{escape(note)}[/]" for note in found.notes),
    )


def _ends(low: float | None, high: float | None) -> str:
    return f"{_shown(low, 3)} to {_shown(high, 3)}"


def _shown(value: float | None, digits: int = 4) -> str:
    """JSON has no infinities: None stands for them."""
    return "-" if value is None else f"{value:.{digits}f}"


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
