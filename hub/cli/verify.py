"""`verify`: is a mix what its recipe says?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hub.actions import verify as verify_action
from hub.cli.mix_options import folders_of
from hub.cli.output import JsonOption, Output, escape
from hub.cli.target import open_hub

DIFFERS = 1


def register(app: typer.Typer) -> None:
    app.command()(verify)


def verify(
    address: Annotated[str, typer.Argument(metavar="NS/NAME[@REV]", help="A mix.")],
    *,
    base: Annotated[str, typer.Option(help="The base model, where it cannot be found by itself.")] = "",
    examples: Annotated[
        Path | None, typer.Option(help="The search's examples, where the search was run in another home.")
    ] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Run the search again, compare its trials.")] = False,
    initial: Annotated[
        list[str] | None,
        typer.Option(metavar="NS/NAME=DIR", help="A PiSSA or OLoRA part before training, where the recipe used it."),
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Largest difference of a value that still counts.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Remake a mix from its pinned parts and recipe and compare; exit code 1 when it is not what the recipe says."""
    out = Output(as_json=as_json)
    with open_hub() as hub:
        done = hub.verify(
            address, base=base, examples=examples, replay=replay, tolerance=tolerance, initial=folders_of(initial)
        )
    for note in (*done.unchecked, *done.mix.notes):
        out.warn(note)
    out.result(done.as_dict(), *_lines(done))
    if not done.reproduced:
        raise typer.Exit(DIFFERS)


def _lines(done: verify_action.Verified) -> list[str]:
    """The verdict first, then what it rests on."""
    mix = done.mix
    lines = [f"[green]reproduced[/] {done.address}" if done.reproduced else f"[red]not reproduced[/] {done.address}"]
    lines += [f"  {escape(finding)}" for finding in done.findings]
    if mix.remade_sha256 is not None:
        how = "bit for bit" if mix.identical else f"largest difference {mix.largest:.3g}" if mix.largest else "compared"
        lines.append(f"[dim]{mix.compared} tensors remade from the recipe, {how}; sha256 {mix.remade_sha256[:12]}[/]")
    if done.score is not None:
        lines.append(f"[dim]loss on the examples {done.score.found:.4f}, recorded {done.score.recorded:.4f}[/]")
    if done.replay is not None:
        lines.append(f"[dim]search run again: {done.replay.same} of {done.replay.trials} trials the same[/]")
    return lines
