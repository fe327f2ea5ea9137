"""The model card (README.md) of a merged adapter: front matter that model hubs read, and a table of what is in it.

Text only: the same facts give the same bytes. Knows neither files nor tensors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .recipe import RECIPE_FILE, Recipe

_REPO_ID = re.compile(r"^\w[\w.-]*(/\w[\w.-]*)?$", re.ASCII)


@dataclass(frozen=True)
class CardFacts:
    """What a card says besides the recipe. `tags` come after those that every mix has."""

    title: str = "merged adapter"
    license: str | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    """Command lines that serve it."""
    usage: Mapping[str, object] = field(default_factory=dict)
    """How it is to be prompted: names of texts, lists of texts, or mappings of text to text; under `mixhub:`."""


def card_text(facts: CardFacts, *, base_model: str | None, task_type: str | None, recipe: Recipe | None) -> str:
    """The text of README.md. A base that is a local path is named in the body only: hubs take only names there."""
    parts = [_front_matter(facts, base_model), f"# {_line(facts.title)}"]
    if facts.description:
        parts.append(facts.description.strip())
    about = [f"- Base model: {_code(base_model)}" if base_model else "- Base model: not named"]
    if task_type:
        about.append(f"- Task type: {_code(task_type)}")
    parts.append("\n".join([*about, *(f"- {_line(note)}" for note in facts.notes)]))
    if recipe is not None:
        parts += _mixture(recipe)
    parts.append(f"## Use\n\n```python\n{_USE.format(base=json.dumps(base_model or 'the base model'))}```")
    if facts.commands:
        parts.append("## Serve\n\n```sh\n" + "\n".join(facts.commands) + "\n```")
    return "\n\n".join(parts) + "\n"


_USE = """from peft import PeftModel
from transformers import AutoModel  # or the class for your task

model = PeftModel.from_pretrained(AutoModel.from_pretrained({base}), "path/of/this/folder")
"""


def _front_matter(facts: CardFacts, base_model: str | None) -> str:
    """YAML, with every text in double quotes."""
    lines = ["---", "library_name: peft"]
    if base_model and _REPO_ID.match(base_model):
        lines.append(f"base_model: {_quoted(base_model)}")
    if facts.license:
        lines.append(f"license: {_quoted(facts.license)}")
    if facts.usage:
        lines += ["mixhub:", *(f"  {name}: {_value(value)}" for name, value in facts.usage.items())]
    tags = dict.fromkeys(["lora", "merge", "mixhub", *facts.tags])
    return "\n".join([*lines, "tags:", *(f"- {_quoted(tag)}" for tag in tags), "---"])


def _mixture(recipe: Recipe) -> Sequence[str]:
    options = ", ".join(f"{key}={value}" for key, value in sorted(recipe.params.items()) if value is not None)
    rows = ["| adapter | revision | weight |", "|---|---|---:|"]
    for parent in recipe.parents:
        address = f"{parent.address}/{parent.folder}" if parent.folder else parent.address
        rows.append(f"| {_code(address)} | {_code((parent.commit or '-')[:12])} | {parent.weight:+.4f} |")
    found = "The weights were found by a search on examples." if recipe.search else "The weights were given by hand."
    return [
        "## Mixed from",
        "\n".join(rows),
        f"Method: {_code(recipe.method)}{f' ({options})' if options else ''}. {found} "
        f"`{RECIPE_FILE}` remakes this adapter: `mixhub compose --recipe {RECIPE_FILE}`.",
    ]


def _value(value: object) -> str:
    """In YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(str(key))}: {_quoted(str(one))}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_quoted(str(one)) for one in value) + "]"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    """A double-quoted YAML text; JSON's escapes would not do, as it writes some characters in two halves."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'


def _code(text: str) -> str:
    return f"`{_line(text).replace('`', '')}`"


def _line(text: str) -> str:
    """On one line, and without what would end a table cell."""
    return " ".join(text.split()).replace("|", "/")
