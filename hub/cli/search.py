"""`search`: find the mixing weights for a new task from a few examples, and publish the mix."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.actions import search as search_action
from hub.actions import search_plan
from hub.actions.search_on_ray import RaySetup
from hub.address import parse_address
from hub.cli.interrupts import Interrupts
from hub.cli.mix_options import GroupsOption, MixCommand, ParamOption, method_params
from hub.cli.output import JsonOption, Output
from hub.cli.preselection import preselect
from hub.cli.report import check_report_file, write_report
from hub.cli.search_report import SearchProgress, report, tell_how_to_go_on
from hub.cli.target import open_hub
from hub.client import Hub
from hub.errors import UsageError
from hub.ray_cluster import LOCAL, is_cluster


def register(app: typer.Typer) -> None:
    app.command(cls=SearchCommand)(search)


class SearchCommand(MixCommand):
    """`--ray` without an address means this machine: an option whose value may be left out, unknown to typer."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        following = [*args[1:], ""]
        return super().parse_args(
            ctx,
            [
                f"--ray={LOCAL}" if (a, is_cluster(b)) == ("--ray", False) else a
                for a, b in zip(args, following, strict=True)
            ],
        )


def search(
    ctx: typer.Context,
    adapters: Annotated[list[str] | None, typer.Argument(metavar="[NS/NAME[@REV]]...", help="Adapters to mix.")] = None,
    *,
    examples: Annotated[
        Path | None, typer.Option(help='JSONL of {"input", "output"}, or a lm-eval task (.yaml).')
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first rows only.")] = None,
    into: Annotated[str, typer.Option("--as", metavar="NS/NAME", help="Publish the mix here.")] = "",
    select: Annotated[
        int | None,
        typer.Option(min=1, help="Search only the best N, each scored alone; without adapters: of all of --base."),
    ] = None,
    namespace: Annotated[str, typer.Option(help="With --select: only adapters of this namespace.")] = "",
    labels: Annotated[Path | None, typer.Option(help="Label matching and ranking: JSON file, label to text.")] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="loss, choice_loss, acc, acc_norm, acc_bytes, exact_match, squad_em, f1, rouge1, rouge2, rougeL, "
            "chrf, an installed one, or package.module:function."
        ),
    ] = "loss",
    guard: Annotated[Path | None, typer.Option(help="Rows (JSONL) whose loss must not rise above the base's.")] = None,
    guard_tolerance: Annotated[float, typer.Option(min=0, help="How much it may rise, in nats.")] = 0.0,
    template: Annotated[
        str, typer.Option(metavar="TEXT|none", help="Around every {input}; default: the adapters' usage contract.")
    ] = "",
    chat_template: Annotated[
        str, typer.Option(metavar="FILE|model|none", help="Jinja; default: the adapters' usage contract.")
    ] = "",
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of written answers; default: the longest output of the examples.")
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="With --select: a sentence encoder, to score only adapters described like the examples.",
        ),
    ] = None,
    base: Annotated[str, typer.Option(help="The base model: a folder, an address or a name.")] = "",
    budget: Annotated[int, typer.Option(min=1, help="Evaluations in all, baselines included.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Random state of the optimizer.")] = 0,
    optimizer: Annotated[
        str,
        typer.Option(
            help="fit (the default for losses), adam (by gradients), or one of nevergrad: Cobyla, OnePlusOne ..."
        ),
    ] = "",
    preset: Annotated[str, typer.Option(help="lorahub: the published algorithm, exactly.")] = "",
    method: Annotated[
        str,
        typer.Option(help="How to mix: exact (default), lorahub, or another of the list below.", show_default=False),
    ] = "",
    param: ParamOption = None,
    bounds: Annotated[str, typer.Option(metavar="LOW,HIGH", help="Limits of each weight.")] = "",
    simplex: Annotated[bool, typer.Option("--simplex", help="Weights of 0 or more that add up to 1.")] = False,
    scale: Annotated[
        str,
        typer.Option(metavar="LOW,HIGH", help="With --simplex: they add up to a number between, which is searched."),
    ] = "",
    groups: GroupsOption = "",
    no_gate: Annotated[
        bool, typer.Option("--no-gate", help="Keep what has the lowest few-shot loss; not for fit.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ..., or auto: over all of them.")] = "cpu",
    dtype: Annotated[
        str, typer.Option(help="Search in float32, tf32 (GPU), bfloat16, or auto: bfloat16 where the device has it.")
    ] = "float32",
    chunk_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens per forward; mixhub bench says what is best.")
    ] = None,
    ray: Annotated[
        str, typer.Option(metavar="[ADDRESS]", help="Score in Ray actors: on this machine, or at HOST:PORT or auto.")
    ] = "",
    ray_actors: Annotated[
        int | None, typer.Option(min=1, help="How many; default: one per GPU (--device cuda) or CPU slot.")
    ] = None,
    allow_unbound: Annotated[
        bool, typer.Option("--allow-unbound", help="Mix although the adapters' base identity is unknown or differs.")
    ] = False,
    resume: Annotated[
        str, typer.Option(metavar="ID", help="Continue a stopped search; all other options are its own.")
    ] = "",
    finish: Annotated[
        bool, typer.Option("--finish", help="With --resume: judge and publish the best so far, without scoring.")
    ] = False,
    report_file: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write one self-contained HTML page of the search.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Search mixing weights: mixhub search team/a team/b team/c --examples few.jsonl --as team/new"""
    out = Output(as_json=as_json)
    if ":" in objective or resume:
        sys.path.insert(0, str(Path.cwd()))  # a function in the user's own file, as `python -m` finds it
    check_report_file(report_file)
    check_one_method(method, param)
    if ray_actors and not ray:
        raise UsageError(
            f"--ray-actors {ray_actors} is for a search in Ray actors", remedy="add --ray, or leave it out"
        )
    on_ray = RaySetup(ray, ray_actors, out.warn) if ray else None
    with open_hub() as hub, Interrupts() as interrupts:
        if finish and not resume:
            raise UsageError("--finish is for a stopped search", remedy="mixhub search --resume ID --finish")
        if resume:
            refuse_other_options(ctx)
            plan = search_plan.stored_plan(hub.workshop, resume)
        else:
            if not (adapters or select) or examples is None:
                raise UsageError(
                    "adapters and --examples are needed", remedy="mixhub search ns/a ns/b --examples few.jsonl"
                )
            if (namespace and (adapters or not select)) or (encoder and not select):
                raise UsageError(
                    "--encoder goes with --select, --namespace with --select and no adapters",
                    remedy="--select 20 --base NAME",
                )
            hub.check_target(into)
            names = list(adapters or hub.candidates(base=base, namespace=namespace))
            addresses = hub.bring(names, base=base)
            selected = None
            if select:
                selected = preselect(
                    out, hub.workshop, addresses, examples, count=select, named=bool(adapters), base=base,
                    namespace=namespace, labels=labels, encoder=encoder, device=device, ray=on_ray,
                )  # fmt: skip
                named = dict(zip(addresses, names, strict=True))
                addresses = list(selected.adapters)
                names = [named.get(address, str(address)) for address in addresses]
            mixing = method or ("lorahub" if preset else "")
            plan = search_plan.new_plan(
                hub.workshop,
                addresses,
                examples,
                labels=labels,
                into=parse_address(into) if into else None,
                base=base,
                allow_unbound=allow_unbound,
                guard=guard,
                template=template,
                chat_template=chat_template,
                limit=limit,
                options=search_plan.SearchOptions(
                    budget=budget,
                    seed=seed,
                    optimizer=optimizer or None,
                    preset=preset or None,
                    method=mixing or None,
                    params=method_params(mixing or "exact", param),
                    bounds=parse_pair(bounds, "--bounds") if bounds else None,
                    simplex=simplex,
                    scale=parse_pair(scale, "--scale") if scale else None,
                    groups=groups or None,
                    gate=not no_gate,
                    device=device,
                    objective=objective,
                    max_new_tokens=max_new_tokens,
                    guard_tolerance=guard_tolerance,
                    dtype=dtype,
                    chunk_tokens=chunk_tokens,
                ),
                names=names,
                in_actors=bool(ray),
            )
            if selected:
                plan = replace(plan, preselection=selected.as_dict())
        interrupts.check()
        done = (
            search_action.finish(hub.workshop, plan, mixer=hub.mixer)
            if finish
            else carry_out(out, hub, plan, interrupts, on_ray)
        )
        found = None if done is None else hub.report(done.uuid)
        if found is not None and report_file is not None:
            write_report(out, found, report_file)
    if done is not None and found is not None:
        report(out, done, found)
    if done is None or done.result.stopped:
        interrupts.end()


def check_one_method(method: str, params: Sequence[str] | None) -> None:
    """`UsageError` for several methods or a range, which earlier versions searched over."""
    ranged = next((text for text in params or () if ":" in text), "")
    if "," in method or ranged:
        given = f"--param {ranged} has a range" if ranged else f"--method {method} names several"
        raise UsageError(
            f"a search has one method and one value for each of its options, but {given}",
            remedy="run two searches, one with each, and compare them: mixhub report",
        )


def refuse_other_options(ctx: typer.Context) -> None:
    """`UsageError` if anything was given beside what --resume allows: a stopped search has its settings already."""
    given = [
        parameter.opts[0] if parameter.param_type_name == "option" else "adapters"
        for parameter in ctx.command.params
        if parameter.name not in ("resume", "finish", "report_file", "as_json", "ray", "ray_actors")
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
    out: Output, hub: Hub, plan: search_plan.SearchPlan, interrupts: Interrupts, ray: RaySetup | None
) -> search_action.SearchDone | None:
    """Run the search under a live line. None: Ctrl-C came before there was a result; how to go on has been said."""
    progress = SearchProgress(out, plan.options.budget)
    try:
        with progress:
            return search_action.run(
                hub.workshop, plan, on_start=progress.tell_id, on_batch=progress.update, stop=interrupts.asked,
                ray=ray, mixer=hub.mixer,
            )  # fmt: skip
    except KeyboardInterrupt:
        if progress.uuid is None:
            raise
        out.result({"search": progress.uuid, "stopped": True, "published": None})
        tell_how_to_go_on(out, progress.uuid, plan, found=bool(plan.replay))
        return None


def parse_pair(text: str, option: str) -> tuple[float, float]:
    """`LOW,HIGH`, low < high."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} '{text}' is not two numbers", remedy=f"for example {option} 0,1") from error
    if not low < high:
        raise UsageError(f"{option} {text}: {low} is not below {high}")
    return low, high
