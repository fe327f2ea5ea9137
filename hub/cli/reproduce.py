"""`reproduce`: a published table, run again."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.interrupts import Interrupts
from hub.cli.output import JsonOption, Output, table
from hub.errors import UsageError

if TYPE_CHECKING:
    from hub.reproduce.lorahub_bbh import Material, Run, Settings

CACHE = Path("mixhub-reproduce")
DRY_ROWS, DRY_SEEDS, DRY_STEPS, DRY_TOKENS = 20, (1, 2), 18, 12


class Table(StrEnum):
    """What can be reproduced."""

    LORAHUB_BBH = "lorahub-bbh"


class Search(StrEnum):
    LORAHUB = "lorahub"
    DEFAULT = "default"


def register(app: typer.Typer) -> None:
    app.command()(reproduce)


def reproduce(
    what: Annotated[Table, typer.Argument(help="lorahub-bbh: LoRAHub's table on BIG-Bench Hard (arXiv 2307.13269).")],
    *,
    tasks: Annotated[str, typer.Option(metavar="NAME,NAME", help="Only these tasks; default: all.")] = "",
    seeds: Annotated[int | None, typer.Option(min=1, help="How many draws of modules; default: 5.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Evaluations of each search; default: 40.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Test rows of each task; default: all.")] = None,
    search: Annotated[
        Search, typer.Option(help="The paper's algorithm, or our default in its place.")
    ] = Search.LORAHUB,
    base: Annotated[Path | None, typer.Option(help="A local copy of google/flan-t5-large.")] = None,
    adapters: Annotated[Path | None, typer.Option(help="Local copies of the modules, a folder each.")] = None,
    data: Annotated[Path | None, typer.Option(help="LoRAHub's data_bbh, unpacked.")] = None,
    cache: Annotated[Path, typer.Option(help="Where downloads and converted modules are kept.")] = CACHE,
    convert_pickles: Annotated[
        bool,
        typer.Option("--convert-pickles", help="Read old modules' tensors from pickles, keep them as safetensors."),
    ] = False,
    log: Annotated[Path | None, typer.Option(help="Keep finished runs here, and go on from them.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="The same steps on a small stand-in, offline, in seconds.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a published table again: mixhub reproduce lorahub-bbh --device cuda --log runs.jsonl"""
    from hub.reproduce import lorahub_bbh
    from hub.reproduce.log import append_to_log, read_log

    out = Output(as_json=as_json)
    settings = lorahub_bbh.Settings(
        seeds=tuple(range(1, seeds + 1)) if seeds else DRY_SEEDS if dry_run else lorahub_bbh.SEEDS,
        steps=steps or (DRY_STEPS if dry_run else lorahub_bbh.STEPS),
        search=search.value,
        rows=rows or (DRY_ROWS if dry_run else None),
        new_tokens=DRY_TOKENS if dry_run else lorahub_bbh.NEW_TOKENS,
        device=device,
    )
    if dry_run and (base or adapters or data):
        raise UsageError("--dry-run brings its own material", remedy="leave out --base, --adapters and --data")
    wanted = [name for name in tasks.split(",") if name]
    runs: list[Run] = read_log(log, settings) if log else []
    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        if dry_run:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="mixhub-"))
            material = _stand_in(Path(scratch))
        else:
            from hub.reproduce.public_material import public_material

            material = public_material(cache, base=base, adapters=adapters, data=data, convert_pickles=convert_pickles)
        for run in lorahub_bbh.reproduce(material, wanted, settings, done=runs):
            interrupts.check()
            runs.append(run)
            if log:
                append_to_log(log, run, settings)
            out.say(f"[dim]{run.task}  {f'seed {run.seed}' if run.seed else 'base'}  {run.accuracy:.1f}[/]")
    _show(out, [run for run in runs if not wanted or run.task in wanted], settings, dry_run=dry_run, what=what)


def _stand_in(folder: Path) -> Material:
    from hub.reproduce.stand_in import stand_in

    return stand_in(folder)


def _show(out: Output, runs: list[Run], settings: Settings, *, dry_run: bool, what: Table) -> None:
    from hub.reproduce.lorahub_bbh import table_rows

    rows = table_rows(runs)
    title = f"{what.value}, accuracy in percent, {len(settings.seeds)} seeds, {settings.search} search"
    cells = [(row.task, f"{row.base:.1f}", f"{row.mean:.1f}", f"{row.best:.1f}") for row in rows]
    document = {
        "table": what.value,
        "dry_run": dry_run,
        "settings": asdict(settings),
        "rows": [asdict(row) for row in rows],
        "runs": [asdict(run) for run in runs],
    }
    columns = ("task", "base", "mean", "best")
    out.result(document, table(title, columns, cells, right=columns[1:]))
    if dry_run:
        out.say("a dry run on the shipped demo model: the steps are those of the paper's table, the numbers are not")
