"""`bench`: how fast this machine scores mixes of given adapters, and which chunk is best."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hub.actions import search_plan
from hub.actions.bench import bench as run_bench
from hub.cli.mix_options import GroupsOption, MethodOption, MixCommand, ParamOption, method_params
from hub.cli.output import JsonOption, Output, facts_lines, table
from hub.cli.target import open_hub

ANY_BUDGET = 1_000_000
"""Nothing is searched, so no group or adapter may be too many."""


def register(app: typer.Typer) -> None:
    app.command(cls=MixCommand)(bench)


def bench(
    adapters: Annotated[list[str], typer.Argument(metavar="NS/NAME[@REV]...", help="Adapters to mix.")],
    *,
    examples: Annotated[Path, typer.Option(help='Few-shot examples: JSONL of {"input", "output"}.')],
    labels: Annotated[Path | None, typer.Option(help="Label matching: JSON file, label to text.")] = None,
    template: Annotated[
        str, typer.Option(metavar="TEXT|none", help="Around every {input}; default: the adapters' usage contract.")
    ] = "",
    chat_template: Annotated[
        str, typer.Option(metavar="FILE|model|none", help="Jinja; default: the adapters' usage contract.")
    ] = "",
    base: Annotated[str, typer.Option(help="The base model: a folder, an address or a name.")] = "",
    population: Annotated[int, typer.Option(min=1, help="Candidates scored at once.")] = 16,
    repeats: Annotated[int, typer.Option(min=1, help="How often each chunk size is timed.")] = 3,
    method: MethodOption = search_plan.DEFAULT_METHOD,
    param: ParamOption = None,
    groups: GroupsOption = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    dtype: Annotated[
        str, typer.Option(help="float32, tf32 (GPU), bfloat16, or auto: bfloat16 where the device has it.")
    ] = "float32",
    chunk_tokens: Annotated[int | None, typer.Option(min=1, help="Only this many tokens per forward.")] = None,
    allow_unbound: Annotated[
        bool, typer.Option("--allow-unbound", help="Mix although the adapters' base identity is unknown or differs.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """How fast mixes are scored here: mixhub bench team/a team/b --base FOLDER --examples few.jsonl"""
    out = Output(as_json=as_json)
    with open_hub() as hub:
        plan = search_plan.new_plan(
            hub.workshop,
            hub.bring(adapters, base=base),
            examples,
            labels=labels,
            base=base,
            allow_unbound=allow_unbound,
            template=template,
            chat_template=chat_template,
            options=search_plan.SearchOptions(
                budget=ANY_BUDGET,
                method=method,
                params=method_params(method, param),
                groups=groups or None,
                device=device,
                dtype=dtype,
                chunk_tokens=chunk_tokens,
            ),
            names=adapters,
        )
        found = run_bench(plan, population=population, repeats=repeats)
    split = ", ".join(f"{name} {share:.0%}" for name, share in found.split.items())
    names = plan.groups.names if plan.groups else ()
    chosen = {"method": plan.options.merge_method(), "adapters": len(plan.parts), "groups": list(names)}
    weights = f", each with {len(names)} weights: {', '.join(names)}" if names else ""
    rate = f"{found.flop_per_second / 1e9:.1f} of {found.matmul_rate / 1e9:.1f} GFLOP/s"
    facts = {
        "mixed": f"{chosen['adapters']} adapters by {chosen['method']}{weights}",
        "candidates per second": f"{found.candidates_per_second:.3g} (population {population}, {plan.options.dtype})",
        "a step": split,
        "matrix products": f"{found.share_of_matmul_rate:.0%} of this machine's rate ({rate})",
        "peak memory": f"{found.memory_bytes / 2**20:.0f} MiB",
        "best chunk": f"--chunk-tokens {found.best_chunk}",
    }
    speeds = [(str(size), f"{speed:.3g}") for size, speed in found.by_chunk.items()]
    right = ("tokens per forward", "candidates per second")
    document = {
        **chosen, **asdict(found),
        "dtype": plan.options.dtype, "share_of_matmul_rate": found.share_of_matmul_rate,
    }  # fmt: skip
    out.result(document, facts_lines(facts), "", table("", right, speeds, right=right))
