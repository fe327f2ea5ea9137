"""How the adapters of a search want to be used, made one: what they agree on is applied, what they do not is reported.

Of several values the one that most adapters name is taken, the first named on a tie; options of the search win over
all. What was chosen is stored with the search and stands in the recipe of its mix.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hub.errors import UsageError
from storage.adapters import Usage

T = TypeVar("T")
NONE = "none"
MODEL = "model"
_IN_CARDS = {
    "template": "prompt_template",
    "chat_template": "chat_template",
    "label_texts": "label_texts",
    "stop": "stop_strings",
}


@dataclass(frozen=True)
class SearchUsage:
    """What is done to the rows of a search; None and empty: nothing. `chat_template`: Jinja source, or `model`."""

    template: str | None = None
    chat_template: str | None = None
    label_texts: Mapping[str, str] | None = None
    stop: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What is there, for the recipe and the stored search."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items() if v}


def stored_usage(data: Mapping[str, Any]) -> SearchUsage:
    """The inverse of `as_dict`."""
    return SearchUsage(**{**data, "stop": tuple(data.get("stop", ()))})


def contract_of(search: Mapping[str, Any] | None) -> dict[str, Any]:
    """The usage contract of a mix, by the names of a card (hub/card_facts.py): what its recipe's `search` applied."""
    used = (search or {}).get("usage")
    if not isinstance(used, Mapping):
        return {}
    return {name: value for key, name in _IN_CARDS.items() if (value := used.get(key))}


def choose_usage(
    parts: Sequence[tuple[str, Usage]], *, template: str = "", chat_template: str = "", outputs: Sequence[str] = ()
) -> tuple[SearchUsage, tuple[str, ...]]:
    """One usage for all `parts` (name, contract), and notes for the person who searches.

    `template` and `chat_template` are options: a text or a file, `none`, `model` for the tokenizer's own chat template;
    empty takes the contracts'. Label texts are taken only when they cover all `outputs`: a new task has new labels.
    """
    notes: list[str] = []
    if template and template != NONE and "{input}" not in template:
        raise UsageError("--template does not contain {input}", remedy='for example: --template "Question: {input}"')

    def chosen(what: str, option: str, value_of: Callable[[Usage], T | None]) -> T | None:
        return _most_named([(n, v) for n, usage in parts if (v := value_of(usage))], what, option, notes)

    usage = SearchUsage(
        template=_option(template)
        if template
        else chosen("prompt template", "--template", lambda u: u.prompt_template),
        chat_template=_chat_source(chat_template)
        if chat_template
        else chosen("chat template", "--chat-template", lambda u: u.chat_template),
        label_texts=chosen(
            "label texts",
            "--labels",
            lambda u: u.label_texts if u.label_texts and set(outputs) <= set(u.label_texts) else None,
        ),
        stop=chosen("stop strings", "", lambda u: u.stop_strings) or (),
    )
    return usage, tuple(notes)


def _option(text: str) -> str | None:
    return None if text == NONE else text


def _chat_source(option: str) -> str | None:
    if option in (NONE, MODEL):
        return _option(option)
    try:
        return Path(option).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--chat-template {option}: {error}", remedy="give a Jinja file, model (the tokenizer's own), or none"
        ) from error


def _most_named(named: Sequence[tuple[str, T]], what: str, option: str, notes: list[str]) -> T | None:
    if not named:
        return None
    keys = [json.dumps(value) for _, value in named]
    best = Counter(keys).most_common(1)[0][0]  # the first on a tie
    value = named[keys.index(best)][1]
    if len(set(keys)) > 1:
        wants = "; ".join(
            f"{_short(key)} ({', '.join(name for (name, _), k in zip(named, keys, strict=True) if k == key)})"
            for key in dict.fromkeys(keys)
        )
        change = f"; {option} chooses another" if option else ""
        notes.append(f"The adapters want different {_plural(what)}: {wants}. {_short(best)} is used{change}.")
    else:
        leave_out = f"; {option} none leaves it out" if option.endswith("template") else ""
        notes.append(f"The {what} of {', '.join(name for name, _ in named)} is used: {_short(best)}{leave_out}.")
    return value


def _plural(what: str) -> str:
    return what if what.endswith("s") else f"{what}s"


def _short(key: str) -> str:
    return key if len(key) <= 60 else f"{key[:57]}..."
