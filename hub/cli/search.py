"""`search`: find the mixing weights for a new task from a few examples, and publish the mix."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hub.actions import search as search_action
from hub.address import parse_address
from hub.cli.interrupts import Interrupts
from hub.cli.mix_options import MethodOption, MixCommand, ParamOption, method_params
from hub.cli.output import JsonOption, Output
from hub.cli.search_report import SearchProgress, report, tell_how_to_go_on
from hub.errors import UsageError
from hub.home import Home, open_home
from hub.settings import Settings


def register(app: typer.Typer) -> None:
    app.command(cls=MixCommand)(search)


def search(
    ctx: typer.Context,
    adapters: Annotated[list[str] | None, typer.Argument(metavar="[NS/NAME[@REV]]...", help="Adapters to mix.")] = None,
    *,
    examples: Annotated[Path | None, typer.Option(help='Few-shot examples: JSONL of {"input", "output"}.')] = None,
    into: Annotated[str, typer.Option("--as", metavar="NS/NAME", help="Publish the mix here.")] = "",
    labels: Annotated[Path | None, typer.Option(help="Label matching: JSON file, label to text.")] = None,
    base: Annotated[str, typer.Option(help="The base model: a folder, an address or a name.")] = "",
    budget: Annotated[int, typer.Option(min=1, help="Evaluations in all, baselines included.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Random state of the optimizer.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Candidates asked for at once.")] = 1,
    optimizer: Annotated[str, typer.Option(help="A nevergrad optimizer; default: depends on --workers.")] = "",
    preset: Annotated[str, typer.Option(help="lorahub: the published algorithm, exactly.")] = "",
    method: MethodOption = "lorahub",
    param: ParamOption = None,
    fold: Annotated[str, typer.Option(help="Short for --param fold=...")] = "",
    bounds: Annotated[str, typer.Option(metavar="LOW,HIGH", help="Limits of each weight.")] = "",
    l1: Annotated[float | None, typer.Option(min=0, help="Penalty on mean|w|.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ..., or auto: over all of them.")] = "cpu",
    dtype: Annotated[
        str, typer.Option(help="Search in float32, bfloat16, or auto: bfloat16 where the device has it.")
    ] = "float32",
    chunk_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens per forward; mixhub bench says what is best.")
    ] = None,
    allow_unbound: Annotated[
        bool, typer.Option("--allow-unbound", help="Mix although the adapters' base identity is unknown or differs.")
    ] = False,
    resume: Annotated[
        str, typer.Option(metavar="ID", help="Continue a stopped search; all other options are its own.")
    ] = "",
    finish: Annotated[
        bool, typer.Option("--finish", help="With --resume: publish the best so far, without scoring.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Search mixing weights: mixhub search team/a team/b team/c --examples few.jsonl --as team/new"""
    out = Output(as_json=as_json)
    with open_home(Settings()) as home, Interrupts() as interrupts:
        if finish and not resume:
            raise UsageError("--finish is for a stopped search", remedy="mixhub search --resume ID --finish")
        if resume:
            refuse_other_options(ctx)
            plan = search_action.stored_plan(home, resume)
        else:
            if not adapters or examples is None:
                raise UsageError(
                    "adapters and --examples are needed", remedy="mixhub search ns/a ns/b --examples few.jsonl"
                )
            plan = search_action.new_plan(
                home,
                [parse_address(a) for a in adapters],
                examples,
                labels=labels,
                into=parse_address(into) if into else None,
                base=base,
                allow_unbound=allow_unbound,
                options=search_action.SearchOptions(
                    budget=budget,
                    seed=seed,
                    workers=workers,
                    optimizer=optimizer or None,
                    preset=preset or None,
                    method=method,
                    params=method_params(method, param, fold=fold),
                    bounds=parse_bounds(bounds) if bounds else None,
                    l1=l1,
                    device=device,
                    dtype=dtype,
                    chunk_tokens=chunk_tokens,
                ),
            )
        interrupts.check()
        done = search_action.finish(home, plan) if finish else carry_out(out, home, plan, interrupts)
    if done is not None:
        report(out, done)
    if done is None or done.result.stopped:
        interrupts.end()


def refuse_other_options(ctx: typer.Context) -> None:
    """`UsageError` if anything was given beside what --resume allows: a stopped search has its settings already."""
    given = [
        parameter.opts[0] if parameter.param_type_name == "option" else "adapters"
        for parameter in ctx.command.params
        if parameter.name not in ("resume", "finish", "as_json")
        and parameter.name is not None
        and (source := ctx.get_parameter_source(parameter.name)) is not None
        and source.name == "COMMANDLINE"
    ]
    if given:
        raise UsageError(
            f"--resume continues a search with its own settings, {', '.join(given)} cannot be changed",
            remedy="leave it out, or start a new search",
        )


def carry_out(
    out: Output, home: Home, plan: search_action.SearchPlan, interrupts: Interrupts
) -> search_action.SearchDone | None:
    """Run the search under a live line. None: Ctrl-C came before there was a result; how to go on has been said."""
    progress = SearchProgress(out, plan.options.budget)
    try:
        with progress:
            return search_action.run(
                home, plan, on_start=progress.tell_id, on_batch=progress.update, stop=interrupts.asked
            )
    except KeyboardInterrupt:
        if progress.uuid is None:
            raise
        out.result({"search": progress.uuid, "stopped": True, "published": None})
        tell_how_to_go_on(out, progress.uuid, plan, found=bool(plan.replay))
        return None


def parse_bounds(text: str) -> tuple[float, float]:
    """`LOW,HIGH`, low < high."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--bounds '{text}' is not two numbers", remedy="for example --bounds 0,1") from error
    if not low < high:
        raise UsageError(f"--bounds {text}: {low} is not below {high}")
    return low, high
