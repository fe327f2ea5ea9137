"""The pre-selection before a search: a bar while single adapters are scored, then what was kept and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hub.actions.preselect import Selected, select
from hub.actions.search_on_ray import RaySetup
from hub.actions.search_plan import SearchOptions
from hub.address import Address
from hub.cli.output import Output, table
from hub.home import Home

SHOWN = 20
"""Dropped adapters shown; `--json` has all."""


def preselect(
    out: Output,
    home: Home,
    addresses: Sequence[Address],
    examples: Path,
    *,
    count: int,
    named: bool,
    base: str,
    namespace: str,
    labels: Path | None,
    encoder: Path | None,
    device: str,
    ray: RaySetup | None = None,
) -> Selected:
    """Select under a bar on stderr, and say there what was kept."""
    columns = (TextColumn("scoring single adapters"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = out.as_json or not out.stderr.is_terminal
    with Progress(*columns, console=out.stderr, disable=hidden, transient=True) as bar:
        task = bar.add_task("preselect", total=None)
        selected = select(
            home, addresses, examples, count=count, named=named, base=base, namespace=namespace, labels=labels,
            encoder=encoder, ray=ray,
            options=SearchOptions(device=device),
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    tell(out, selected)
    if encoder is None:
        out.say("[dim]descriptions were not compared with the examples; --encoder FOLDER does that[/]")
    return selected


def tell(out: Output, selected: Selected) -> None:
    """Kept and dropped adapters with their losses and reasons, on stderr."""
    kept = [one for one in selected.considered if one.kept]
    dropped = [one for one in selected.considered if not one.kept]
    rows = [
        ("kept" if one.kept else "dropped", one.name, "" if one.loss is None else f"{one.loss:.4f}", one.reason)
        for one in (*kept, *dropped[:SHOWN])
    ]
    title = (
        f"pre-selection: {len(kept)} of {len(selected.considered)} adapters kept, {selected.evaluations} scored alone "
        "beside the budget"
    )
    out.say(table(title, ("", "adapter", "loss", "why"), rows, right=("loss",)))
    if len(dropped) > SHOWN:
        out.say(f"... and {len(dropped) - SHOWN} more dropped; --json has them all")
