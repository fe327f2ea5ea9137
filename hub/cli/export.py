"""`export`: an adapter as files for PEFT, servers and image tools, or its base model with the adapter fused in."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from hub.actions import export as export_action
from hub.cli.output import JsonOption, Output, escape, table
from hub.cli.target import open_hub
from hub.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command()(export)


def export(
    address: Annotated[str, typer.Argument(metavar="NS/NAME[/FOLDER][@REV]", help="An adapter's address.")],
    *,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Target folder.")] = None,
    profile: Annotated[
        str,
        typer.Option(
            help="peft-uniform, peft-pattern (keeps per-module ranks), vllm, kohya, diffusers or gguf (llama.cpp)."
        ),
    ] = "peft-uniform",
    max_rank: Annotated[
        int | None, typer.Option(min=1, help="Cut modules to this rank, and say what share of each is kept.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16; default: as stored.")] = "",
    fused: Annotated[bool, typer.Option("--fused", help="Write the base model with the adapter added in.")] = False,
    base: Annotated[
        str, typer.Option(help="The base model, for --fused and for adapters that need it, if this home knows it not.")
    ] = "",
    initial: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="PiSSA, OLoRA: the adapter as saved before training."),
    ] = None,
    push: Annotated[
        str, typer.Option(metavar="NS/NAME", help="Upload the result to a hub of the Hugging Face protocol.")
    ] = "",
    endpoint: Annotated[str, typer.Option(metavar="URL", help="With --push: which hub; default HF_ENDPOINT.")] = "",
    private: Annotated[bool, typer.Option("--private", help="With --push: make a new repo private.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the target folder.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write an adapter as plain LoRA (alpha = r, no patterns, no rsLoRA): every loader then scales it the same way."""
    out = Output(as_json=as_json)
    if to is None and not push:
        raise UsageError("say where to: --to or --push", remedy="mixhub export ns/name --to DIR")
    with open_hub() as hub, ExitStack() as scratch:
        target = to or Path(scratch.enter_context(TemporaryDirectory(prefix="mixhub-"))) / "export"
        done = hub.export(
            address, target, profile=profile, dtype=dtype, max_rank=max_rank, fused=fused, base=base, initial=initial,
            force=force,
        )  # fmt: skip
        if push:
            done = export_action.push(done, push, endpoint=endpoint, private=private)
    for note in done.notes:
        out.warn(note)
    rows = [(f"{share:.4f}", path) for path, share in done.retained.items()]
    if rows:
        out.say(table("", ("energy kept", "module"), rows, right=("energy kept",)))
        out.say(f"energy kept in all: {done.retained_energy:.4f}; largest |change| left out: {done.max_cut:.3g}")
    for line in done.commands:
        out.say(escape(line))
    if done.pushed:
        out.say(f"pushed: {escape(done.pushed)}")
    out.result(done.as_dict(), f"{done.directory}  [dim]{done.address} max |change| {done.max_change:.3g}[/]")
