"""`publish`, `pull`, `ls`, `show` and `delete`: adapters as things in the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from hub.address import parse_address
from hub.card_facts import UsageContract
from hub.cli.output import JsonOption, Output, facts_lines, table
from hub.cli.target import open_hub
from hub.contract_options import read_contract
from hub.errors import UsageError

AddressArgument = Annotated[str, typer.Argument(metavar="NS/NAME[/FOLDER][@REV]", help="An adapter's address.")]


def register(app: typer.Typer) -> None:
    app.command()(publish)
    app.command()(pull)
    app.command("ls")(list_adapters)
    app.command()(show)
    app.command()(delete)


def publish(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with adapter_config.json (or a base model).")
    ],
    address: Annotated[str, typer.Argument(metavar="NS/NAME[/FOLDER]", help="Where it will live.")],
    *,
    base: Annotated[str, typer.Option(help="The base model it was trained on: a folder, an address or a name.")] = "",
    version: Annotated[str, typer.Option(help="Version to give, v<number>; default: the next one.")] = "",
    message: Annotated[str, typer.Option("--message", "-m", help="What changed.")] = "",
    exclude: Annotated[list[str] | None, typer.Option(help="Shell pattern of files to leave out; repeatable.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop what DIR does not bring, also adapters in folders of their own.")
    ] = False,
    prompt_template: Annotated[str, typer.Option(help="Usage contract: how an input is wrapped, with {input}.")] = "",
    labels: Annotated[Path | None, typer.Option(help="Usage contract: JSON file, label to text.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Usage contract: a stop string; repeatable.")] = None,
    suggested_weight: Annotated[float | None, typer.Option(help="Usage contract: weight that works well.")] = None,
    training_data: Annotated[
        Path | None,
        typer.Option(help="JSONL of the rows it was trained on; only digests are kept, so that searches can tell."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a folder as a new immutable revision and give it the next version. Unchanged content makes neither."""
    out = Output(as_json=as_json)
    contract: UsageContract = read_contract(
        prompt_template=prompt_template, labels=labels, stop=stop, suggested_weight=suggested_weight
    )
    with open_hub() as hub:
        done = hub.publish(
            directory,
            address,
            base=base,
            version=version,
            message=message,
            exclude=exclude or (),
            contract=contract,
            replace=replace,
            training_data=training_data,
        )
    for note in done.notes:
        out.warn(note)
    verb = "published" if done.created else "published again, unchanged" if done.versioned else "unchanged"
    out.result(done.as_dict(), f"{verb} {done.address}  [dim]{done.commit_id[:12]}[/]")


def pull(
    address: AddressArgument,
    to: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Target folder; default: ./name.")] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy the files of a revision, byte for byte, to DIR or to the current folder's name/."""
    out = Output(as_json=as_json)
    with open_hub() as hub:
        done = hub.pull(address, to, force=force)
    out.result(done.as_dict(), f"{done.directory}  [dim]{done.address} {done.commit_id[:12]}[/]")


def list_adapters(
    text: Annotated[str, typer.Argument(help="Only names, tasks and tags that contain this.")] = "",
    *,
    base: Annotated[str, typer.Option(help="Only adapters of this base model (any of its names).")] = "",
    task: Annotated[str, typer.Option(help="Only adapters with this task.")] = "",
    tag: Annotated[str, typer.Option(help="Only adapters with this tag.")] = "",
    namespace: Annotated[str, typer.Option(help="Only this namespace.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List the adapters that there are, each folder of a repo by itself, newest revision of main."""
    out = Output(as_json=as_json)
    with open_hub() as hub:
        found = hub.find(text, base=base, task=task, tag=tag, namespace=namespace, limit=limit)
    rows = [(a.address, a.version, a.base or "unbound", a.peft_type, a.rank, a.task, a.state) for a in found]
    columns = ("adapter", "version", "base", "type", "rank", "task", "state")
    out.result([a.as_dict() for a in found], table("", columns, rows, right=("rank",)))
    if not found:
        out.say("nothing found; publish one with: mixhub publish DIR namespace/name")


def show(address: AddressArgument, *, as_json: JsonOption = False) -> None:
    """Facts, versions, lineage and the table of modules of one adapter."""
    out = Output(as_json=as_json)
    with open_hub() as hub:
        shown = hub.show(address)
    text: list[RenderableType] = [f"[bold]{shown.address}[/]  [dim]{shown.commit_id}[/]", facts_lines(shown.facts)]
    if shown.versions:
        versions = [(v.name, v.commit_id[:12], v.aliases, v.created_at) for v in shown.versions]
        text += ["", table("versions", ("version", "commit", "aliases", "created"), versions)]
    if shown.parents:
        made_of = [(f"{p.weight:+.4g}", p.address, p.commit_id[:12]) for p in shown.parents]
        text += [
            "",
            table(f"made of (method {shown.method})", ("weight", "adapter", "commit"), made_of, right=("weight",)),
        ]
    if shown.children:
        children = [(c.address, c.commit_id[:12]) for c in shown.children]
        text += ["", table("used in", ("adapter", "commit"), children)]
    if shown.modules:
        modules = [(m.path, m.rank, m.in_features, m.out_features, m.dtype) for m in shown.modules]
        text += ["", table("modules", ("module", "rank", "in", "out", "dtype"), modules, right=("rank", "in", "out"))]
    out.result(shown.as_dict(), *text)


def delete(
    address: AddressArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also a repo that aliases name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a version (ns/name@v3) or a whole repo (ns/name). What an alias or a mix pins is refused or kept."""
    out = Output(as_json=as_json)
    target = parse_address(address)
    if not yes and as_json:
        raise UsageError(f"deleting {target} needs a yes, and --json cannot ask", remedy="add --yes")
    if not yes:
        typer.confirm(f"Delete {target}?", abort=True, err=True)
    with open_hub() as hub:
        done = hub.delete(address, force=force)
    out.result(done.as_dict(), done.sentence)
