"""`compose`: mix adapters with given weights, or remake a mix from its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from compose.layer_weights import Weight
from hub.actions import compose as compose_action
from hub.address import parse_address
from hub.cli.mix_options import (
    MethodOption,
    MixCommand,
    ParamOption,
    folders_of,
    method_params,
    policies_of,
    read_weights,
)
from hub.cli.output import JsonOption, Output, table
from hub.cli.target import open_hub
from hub.errors import UsageError

UNRELATED = 0.5
"""Gauge affinity below which the user is told: factors mixed element-wise are then hardly comparable."""


def register(app: typer.Typer) -> None:
    app.command(cls=MixCommand)(compose)


def compose(
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="[NS/NAME[@REV]=WEIGHT]...", help="Adapters and their weights.")
    ] = None,
    *,
    into: Annotated[str, typer.Option("--as", metavar="NS/NAME", help="Address of the result.")] = "",
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML: adapter to weight, or to weights by globs over modules.")
    ] = None,
    method: MethodOption = "lorahub",
    param: ParamOption = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Short for --param rank=...")] = None,
    max_rank: Annotated[int | None, typer.Option(min=1, help="Cut the result to this rank by singular values.")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=POLICY",
            help="Whose whole tensors count; kinds: bias, modules_to_save, embedding, tokens; policies: error, "
            "take_from:ADAPTER, delta_average, drop.",
        ),
    ] = None,
    base: Annotated[str, typer.Option(help="The base model, for adapters that need it (DoRA, PiSSA, VeRA ...).")] = "",
    initial: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NS/NAME=DIR", help="PiSSA, OLoRA: the adapter as saved before training, instead of the base."
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16; default: the widest input.")] = "",
    recipe: Annotated[Path | None, typer.Option(help="Remake the mix of this mixhub_recipe.json, bit for bit.")] = None,
    allow_unbound: Annotated[
        bool, typer.Option("--allow-unbound", help="Mix although the adapters' base identity is unknown or differs.")
    ] = False,
    version: Annotated[str, typer.Option(help="Version to give, v<number>; default: the next one.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Mix adapters into a new one: mixhub compose team/a=0.6 team/b@v2=-0.3 --as team/new"""
    out = Output(as_json=as_json)
    if [bool(parts), bool(recipe), bool(weights)].count(True) != 1:
        raise UsageError(
            "give adapters with weights, or --weights, or --recipe", remedy="mixhub compose ns/a=0.5 ns/b=0.5 --as ns/c"
        )
    if recipe and (rank or dtype or allow_unbound or method != "lorahub"):
        raise UsageError("--recipe decides --method, --rank, --dtype and --allow-unbound", remedy="leave them out")
    if not into:
        raise UsageError("--as is missing", remedy="name the result: --as namespace/name")
    with open_hub() as hub:
        if recipe:
            done = hub.remake(recipe, into, base=base, initial=folders_of(initial), version=version)
        else:
            options = compose_action.MixOptions(
                method, method_params(method, param, rank=rank), dtype, max_rank, policies_of(policy), base
            )
            listed = read_weights(weights) if weights else [parse_part(part) for part in parts or ()]
            done = hub.mix(
                listed, parse_address(into), options, allow_unbound=allow_unbound, version=version,
                initial=folders_of(initial),
            )  # fmt: skip
    for note in done.notes:
        out.warn(note)
    if done.gauge_affinity is not None and done.gauge_affinity < UNRELATED and method == "lorahub":
        out.say(
            f"gauge affinity {done.gauge_affinity:.2f}: the adapters' factors are laid out differently, so much of "
            "this element-wise mix is cross terms; compare --method exact, or --param align=procrustes"
        )
    rows = [(_shown(p.weight), str(p.address)) for p in done.parts]
    out.result(
        done.as_dict(),
        table("", ("weight", "adapter"), rows, right=("weight",)),
        f"{done.verb} {done.published.address}  [dim]{done.published.commit_id[:12]}[/]",
    )


def parse_part(text: str) -> compose_action.Part:
    """`ns/name[/folder][@rev]=weight`."""
    address, equals, weight = text.rpartition("=")
    try:
        if not equals:
            raise ValueError
        return compose_action.Part(parse_address(address), float(weight))
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"'{text}' is not an adapter with a weight", remedy="write ns/name=0.5") from error


def _shown(weight: Weight) -> str:
    if isinstance(weight, Mapping):
        return ", ".join(f"{glob} {value:+.4g}" for glob, value in weight.items())
    return f"{weight:+.4g}"
