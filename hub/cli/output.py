"""The one place where commands speak: data on stdout, words on stderr, or one JSON document with `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console, RenderableType
from rich.markup import escape as escape  # for texts from users and files, before they go through rich
from rich.table import Table

from hub.finite import finite

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of text.")]

UNBROKEN = 100_000
"""Characters of a line that is not on a screen."""


class Output:
    """What a command prints. `data` is for machines, `text` for people; only one of them reaches stdout."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.stdout = Console(highlight=False, **_layout(sys.stdout))
        self.stderr = Console(stderr=True, highlight=False, **_layout(sys.stderr))

    def result(self, data: Any, *text: RenderableType) -> None:
        if self.as_json:
            sys.stdout.write(json.dumps(finite(data), indent=2, ensure_ascii=False, default=str) + "\n")
            return
        for item in text:
            self.stdout.print(item)

    def say(self, *words: RenderableType) -> None:
        """Words for a person; silent with `--json`."""
        if not self.as_json:
            for word in words:
                self.stderr.print(word)

    def warn(self, words: str) -> None:
        """Something that the user should know; on stderr also with `--json`, where stdout stays pure data."""
        self.stderr.print(f"[yellow]note:[/] {escape(words)}")


def _layout(stream: TextIO) -> dict[str, Any]:
    """A file or a pipe has no edge: neither a line nor a cell of a table is broken, so that digests can be found."""
    return {} if stream.isatty() else {"soft_wrap": True, "width": UNBROKEN}


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> Table:
    """A plain table; columns named in `right` are right-aligned numbers."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(escape(column), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(str(cell)) if cell is not None else "" for cell in row))
    return made


def facts_lines(facts: Mapping[str, object]) -> Table:
    """Name and value, a line each; empty values are left out."""
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in facts.items():
        if value not in (None, "", [], {}, ()):
            made.add_row(name, escape(str(value)))
    return made
