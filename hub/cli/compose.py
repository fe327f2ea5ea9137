"""`compose`: mix adapters with given weights, or remake a mix from its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hub.actions import compose as compose_action
from hub.address import parse_address
from hub.cli.output import JsonOption, Output, table
from hub.errors import UsageError
from hub.home import open_home
from hub.settings import Settings


def register(app: typer.Typer) -> None:
    app.command()(compose)


def compose(
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="[NS/NAME[@REV]=WEIGHT]...", help="Adapters and their weights.")
    ] = None,
    *,
    into: Annotated[str, typer.Option("--as", metavar="NS/NAME", help="Address of the result.")] = "",
    method: Annotated[str, typer.Option(help="lorahub (element-wise), exact, svd or peft-linear.")] = "lorahub",
    fold: Annotated[str, typer.Option(help="lorahub only: balanced or lorahub-compat.")] = "",
    rank: Annotated[int | None, typer.Option(min=1, help="svd only: rank of the result.")] = None,
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
    if bool(parts) == bool(recipe):
        raise UsageError(
            "give either adapters with weights or --recipe", remedy="mixhub compose ns/a=0.5 ns/b=0.5 --as ns/c"
        )
    if recipe and (fold or rank or dtype or allow_unbound or method != "lorahub"):
        raise UsageError(
            "--recipe decides --method, --fold, --rank, --dtype and --allow-unbound", remedy="leave them out"
        )
    with open_home(Settings()) as home:
        target = parse_address(into) if into else None
        if recipe:
            done = compose_action.remake(home, recipe, target, version=version)
        else:
            if target is None:
                raise UsageError("--as is missing", remedy="name the result: --as namespace/name")
            done = compose_action.compose(
                home,
                [parse_part(part) for part in parts or ()],
                target,
                method=method,
                params=method_params(fold=fold, rank=rank),
                dtype=dtype,
                allow_unbound=allow_unbound,
                version=version,
            )
    for note in done.notes:
        out.warn(note)
    rows = [(f"{p.weight:+.4g}", str(p.address)) for p in done.parts]
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


def method_params(*, fold: str, rank: int | None) -> dict[str, object]:
    """The options that were given, by the name that the merge method knows them by."""
    return {name: value for name, value in (("fold", fold), ("rank", rank)) if value}
