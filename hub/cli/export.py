"""`export`: an adapter as plain LoRA files for PEFT and servers, or its base model with the adapter fused in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hub.actions import export as export_action
from hub.address import parse_address
from hub.cli.output import JsonOption, Output
from hub.home import open_home
from hub.settings import Settings


def register(app: typer.Typer) -> None:
    app.command()(export)


def export(
    address: Annotated[str, typer.Argument(metavar="NS/NAME[/FOLDER][@REV]", help="An adapter's address.")],
    *,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Target folder.")],
    profile: Annotated[
        str, typer.Option(help="peft-uniform or peft-pattern (keeps per-module ranks).")
    ] = "peft-uniform",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16; default: as stored.")] = "",
    fused: Annotated[bool, typer.Option("--fused", help="Write the base model with the adapter added in.")] = False,
    base: Annotated[str, typer.Option(help="With --fused: the base model, if this home does not know it.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace the target folder.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write an adapter as plain LoRA (alpha = r, no patterns, no rsLoRA): every loader then scales it the same way."""
    out = Output(as_json=as_json)
    with open_home(Settings()) as home:
        done = export_action.export(
            home, parse_address(address), to, profile=profile, dtype=dtype, fused=fused, base=base, force=force
        )
    for note in done.notes:
        out.warn(note)
    out.result(done.as_dict(), f"{done.directory}  [dim]{done.address} max |change| {done.max_change:.3g}[/]")
