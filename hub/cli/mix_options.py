"""What the commands that mix have in common: methods with their options, weights from a file, policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from typer.core import TyperCommand

from compose.refusals import PROMPT_MEAN
from hub.actions.compose import Part
from hub.address import parse_address
from hub.errors import UsageError

MethodOption = Annotated[str, typer.Option(help="How to mix; listed below. For prompts of one shape: prompt-mean.")]
ParamOption = Annotated[
    list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="An option of the method; may be repeated.")
]
GroupsOption = Annotated[
    str,
    typer.Option(
        metavar="layers:N|attn,mlp|GLOBS",
        help="A weight per adapter and group of modules: N groups of layers, kinds (attn, mlp, other), or globs.",
    ),
]
MAX_WEIGHTS_FILE = 1_000_000


REMOVED = {
    "--fold": "--method lorahub --param fold=NAME",
    "--non-negative": "--bounds 0,1.5",
    "--workers": "in Python: Hub().search(..., workers=N)",
    "--seeds": "run several searches with different --seed, and compare their reports",
    "--l1": "--optimizer fit, whose prior keeps weights small",
}
"""Options of earlier versions, and what to use instead."""


class MixCommand(TyperCommand):
    """A command whose --help ends with the table of merge methods, which is read only then: it loads torch."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for option in (argument.partition("=")[0] for argument in args):
            if option in REMOVED:
                raise UsageError(f"there is no option {option} any more", remedy=REMOVED[option])
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from compose.methods.reference import method_help

        super().format_help(ctx, formatter)
        typer.echo(f"Methods and their options (--method NAME --param OPTION=VALUE)\n\n{method_help()}\n")


def method_params(method: str, params: Sequence[str] | None, *, rank: int | None = None) -> dict[str, Any]:
    """The options that were given, typed as the method wants them."""
    given = dict(_pair(text, "--param density=0.5") for text in params or ())
    if rank:
        given["rank"] = str(rank)
    if not given or method == PROMPT_MEAN:
        return given  # so that plain mixes load no torch before they are known to be possible
    from compose.methods import find_method

    return dict(find_method(method).parse(given))


def policies_of(texts: Sequence[str] | None) -> dict[str, str]:
    """Kind of tensor -> whose counts."""
    return dict(_pair(text, "--policy modules_to_save=take_from:ns/name") for text in texts or ())


def folders_of(texts: Sequence[str] | None) -> dict[str, Path]:
    """Address -> folder of the adapter before training."""
    pairs = (_pair(text, "--initial ns/name=FOLDER") for text in texts or ())
    return {name: Path(folder).expanduser() for name, folder in pairs}


def _pair(text: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"'{text}' is no NAME=VALUE", remedy=f"write for example {example}")
    return name, value


def read_weights(path: Path) -> list[Part]:
    """Adapters with weights from a YAML file: address -> number, or address -> globs over modules -> numbers."""
    try:
        if path.stat().st_size > MAX_WEIGHTS_FILE:
            raise UsageError(f"{path} is larger than {MAX_WEIGHTS_FILE} bytes")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, Mapping) or not content:
        raise UsageError(f"{path} holds no adapters", remedy="write lines such as ns/name: 0.5")
    return [Part(parse_address(str(address)), _weight(str(address), weight)) for address, weight in content.items()]


def _weight(address: str, weight: object) -> float | dict[str, float]:
    if isinstance(weight, Mapping):
        return {str(glob): _number(address, value) for glob, value in weight.items()}
    return _number(address, weight)


def _number(address: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise UsageError(f"the weight of {address} is {value!r}, expected a number")
