"""`report`: what a search found, also long after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hub.cli.output import JsonOption, Output, escape, facts_lines, table
from hub.cli.search_tables import search_tables
from hub.cli.target import open_hub
from hub.errors import UsageError
from hub.report.search_report import SearchReport


def register(app: typer.Typer) -> None:
    app.command()(report)


def report(
    search: Annotated[
        str,
        typer.Argument(
            metavar="[ID|NS/NAME[@REV]]",
            help="A search, by its id, the first 8 digits of it, or its mix; without: the list of searches.",
        ),
    ] = "",
    *,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one self-contained HTML page.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Without a search: how many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Report a search: verdict, losses, weights and contributions; as a page with --html, all of it with --json."""
    out = Output(as_json=as_json)
    check_report_file(html)
    if not search and html is not None:
        raise UsageError("--html is the page of one search", remedy="mixhub report ID --html FILE")
    with open_hub() as hub:
        if not search:
            tell_searches(out, hub.searches(limit=limit))
            return
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


def tell_searches(out: Output, found: Sequence[SearchReport]) -> None:
    """A line for each."""
    rows = [
        (
            one.uuid[:12],
            f"{one.created_at:%Y-%m-%d %H:%M}",
            one.status,
            ", ".join(one.adapters[:3]) + (f" and {len(one.adapters) - 3} more" if len(one.adapters) > 3 else ""),
            "" if (best := one.best_loss) is None else f"{best:.4f}",
            f"{one.metric.title} {one.metric.of(best):.4f}" if one.metric and best is not None else "",
            (one.result or {}).get("published") or "",
        )
        for one in found
    ]
    columns = ("search", "begun (UTC)", "state", "adapters", "best loss", "metric", "published as")
    out.result([one.summary() for one in found], table("", columns, rows, right=("best loss",)))
    if not found:
        out.say("no search was made here yet; begin one with: mixhub search ns/a ns/b --examples few.jsonl")


def check_report_file(path: Path | None) -> None:
    """`UsageError` for a page that could not be written, before anything slow begins."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise UsageError(f"{path} cannot be written: its folder does not exist, or it is one", remedy="name a file")


def write_report(out: Output, found: SearchReport, path: Path) -> None:
    """Write the page of a search, and say where."""
    from hub.report.page import write_page

    write_page(found, path)
    out.say(f"report: {escape(str(path))}")
