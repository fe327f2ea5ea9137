"""The methods that a search tried, in a report: which was chosen, and what each came to."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from hub.cli.output import escape, table
from hub.methods_tried import MethodTried, options_text

COLUMNS = ("method", "trials", "best loss", "with")


def method_lines(chosen: str, tried: Sequence[MethodTried]) -> list[RenderableType]:
    """Nothing where the search had one method. `chosen`: the method of the mix with its options; empty without one."""
    if not tried:
        return []
    rows = [(one.method, str(one.trials), f"{one.best_loss:.4f}", options_text(one.params)) for one in tried]
    mixed = [f"mixed by {escape(chosen)}", ""] if chosen else []
    return [table("methods", COLUMNS, rows, right=COLUMNS[1:3]), "", *mixed]
