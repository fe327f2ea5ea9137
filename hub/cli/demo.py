"""`demo`: the main job on what ships with the package, as tables."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.table import Table

from hub.cli.interrupts import Interrupts
from hub.cli.output import JsonOption, Output, escape, table
from hub.cli.search_tables import weight_bars
from hub.demo import run as demo_run
from hub.demo.run import PeftMissing, TaskResult
from hub.errors import UsageError
from hub.home import open_home
from hub.settings import Settings

DEFAULT_HOME = Path("mixhub-demo")


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    task: Annotated[str, typer.Argument(help="A held-out task; default: one where a single adapter does well.")] = "",
    *,
    every: Annotated[bool, typer.Option("--all", help="All held-out tasks, one row each.")] = False,
    home: Annotated[Path, typer.Option(help="Folder of the demo's own home.")] = DEFAULT_HOME,
    svg: Annotated[Path | None, typer.Option(help="Also save what is printed as a picture.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish the shipped base and adapters, search a held-out task, compare, export, and load the result with PEFT."""
    out = Output(as_json=as_json)
    names = demo_run.task_names()
    if task and task not in names:
        raise UsageError(f"there is no task '{task}'", remedy=f"one of: {', '.join(names)}")
    chosen = names if every else [task or demo_run.FIRST_TASK]
    with open_home(Settings(home=home, database_url="", blobs_url="")) as opened, Interrupts() as interrupts:

        def say(line: str) -> None:
            interrupts.check()
            out.say(f"[dim]{escape(line)}[/]")

        adapters = demo_run.publish_content(opened, say)
        demo_run.load_libraries(say)
        results = [demo_run.search_task(opened, adapters, name, say) for name in chosen]
        if every:
            out.result([_as_dict(r) for r in results], _overview(results))
            return
        [result] = results
        check, unchecked, target = None, None, home / f"exported-{result.task}"
        try:
            if result.found.composed is not None:
                check = demo_run.export_and_check(opened, result.found, result.task, target)
        except PeftMissing as error:
            unchecked = error  # raised once everything else has been shown
    found = result.found.result
    rows = [(row.name, f"{row.loss:.3f}", f"{row.exact_match:.3f}") for row in result.rows]
    text: list[RenderableType] = [
        table(
            f"{result.task}: {result.operations}, on test strings that no search has seen",
            ("candidate", "loss", "exact match"), rows, right=("loss", "exact match"),
        ),
        "",
        *weight_bars(found.adapter_names, found.weights),
        *(f"[yellow]note:[/] {escape(note)}" for note in found.notes),
        "",
    ]  # fmt: skip
    if result.found.composed is not None:
        text.append(f"exported  {escape(str(target))}")
    if check is not None:
        text.append(
            f"PEFT loads it: {check.same_outputs} of {check.rows} outputs are the same, "
            f"the losses differ by at most {check.max_loss_difference:.1e}"
        )
    document = {**_as_dict(result), "exported": str(target), "peft": asdict(check) if check else None}
    out.result(document, *text)
    if svg is not None:
        save_picture(svg, text)
    if unchecked is not None:
        raise unchecked


def save_picture(path: Path, text: Sequence[RenderableType]) -> None:
    """The printed text as an SVG that fetches no fonts."""
    console = Console(record=True, width=88, file=io.StringIO(), highlight=False)
    for item in text:
        console.print(item)
    drawn = console.export_svg(title="make demo")
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")


def _overview(results: Sequence[TaskResult]) -> Table:
    """Exact match of all five candidates, and the losses of those that do something."""
    columns = ("task", "base", "uniform", "best single", "lorahub", "default")
    rows = []
    for result in results:
        base, uniform, *others = result.rows
        cells = (f"{row.exact_match:.2f} ({row.loss:.2f})" for row in others)
        rows.append((result.task, f"{base.exact_match:.2f}", f"{uniform.exact_match:.2f}", *cells))
    means = [sum(result.rows[i].exact_match for result in results) / len(results) for i in range(5)]
    rows.append(("mean exact match", *(f"{mean:.2f}" + " " * 7 * (i > 1) for i, mean in enumerate(means))))
    return table("exact match (loss) on test strings", columns, rows, right=columns[1:])


def _as_dict(result: TaskResult) -> dict[str, object]:
    return {
        "task": result.task,
        "operations": result.operations,
        "rows": [asdict(row) for row in result.rows],
        "notes": list(result.found.result.notes),
        "weights": dict(zip(result.found.result.adapter_names, result.found.result.weights, strict=True)),
    }
