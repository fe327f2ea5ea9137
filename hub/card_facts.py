"""What a model card says about an adapter: licence, task, metrics, tags, and its usage contract.

The usage contract is how the adapter wants to be used: prompt or chat template, label texts, stop strings, suggested
weight. Authors write it under the key `mixhub:` of the front matter; `chat_template.jinja` beside the card counts
as the chat template; options given when publishing win over both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from hub.errors import BadUpload
from storage.adapters import MAX_TAG
from storage.errors import InvalidName
from storage.names import check_text

_MAX_FRONT_MATTER = 256 * 1024
_MAX_VALUES = 20_000
"""In the front matter, with YAML aliases spelled out."""


@dataclass(frozen=True)
class UsageContract:
    prompt_template: str | None = None
    chat_template: str | None = None
    label_texts: Mapping[str, str] | None = None
    stop_strings: tuple[str, ...] | None = None
    suggested_weight: float | None = None

    def or_else(self, other: UsageContract) -> UsageContract:
        """This contract, with what it leaves open taken from `other`."""
        missing = {name: value for name, value in vars(other).items() if getattr(self, name) is None}
        return replace(self, **missing)


@dataclass(frozen=True)
class CardFacts:
    licence: str | None = None
    base_model: str | None = None
    tags: tuple[tuple[str, str, str], ...] = ()
    """(kind, name, value): kind is `task`, `metric`, `dataset` or `tag`."""
    contract: UsageContract = field(default_factory=UsageContract)


def read_card(folder: Path) -> CardFacts:
    """Facts from `README.md` and `chat_template.jinja` of a folder; empty facts when there is no card.

    `BadUpload` when the front matter is not valid YAML or the contract has the wrong types.
    """
    card = folder / "README.md"
    front = front_matter(card) if card.is_file() else {}
    template = folder / "chat_template.jinja"
    chat = template.read_text(encoding="utf-8", errors="replace") if template.is_file() else None
    contract = _contract(front.get("mixhub"), card).or_else(UsageContract(chat_template=chat))
    facts = CardFacts(
        licence=_text(front.get("license")),
        base_model=_first_text(front.get("base_model")),
        tags=tuple(dict.fromkeys(_tags(front))),
        contract=contract,
    )
    _check_texts(facts, card)
    return facts


def _check_texts(facts: CardFacts, card: Path) -> None:
    """Strangers write cards: `BadUpload` for texts that the registry could not keep, before a byte is stored."""
    for _, name, value in facts.tags:
        if len(name) > MAX_TAG:
            raise BadUpload(f"'{card}': a tag has {len(name)} characters, at most {MAX_TAG}: '{name[:40]}...'")
        _check_text(name + value, card)
    contract = facts.contract
    labels = contract.label_texts or {}
    for text in (
        facts.licence,
        facts.base_model,
        contract.prompt_template,
        contract.chat_template,
        *labels,
        *labels.values(),
        *(contract.stop_strings or ()),
    ):
        _check_text(text or "", card)


def _check_text(text: str, card: Path) -> None:
    try:
        check_text(text, what="text")
    except InvalidName as error:
        raise BadUpload(f"'{card}': {error.message}", remedy="repair the file") from error


def front_matter(card: Path) -> Mapping[str, object]:
    """The names and values at the top of a card; empty when it has none. `BadUpload` when they are not valid YAML."""
    return front_matter_of(card.read_text(encoding="utf-8", errors="replace"), owner=str(card))


def front_matter_of(content: str, *, owner: str) -> Mapping[str, object]:
    """The same of the card's text; messages call it `owner`."""
    lines = content.lstrip("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
    if end is None:
        raise BadUpload(f"'{owner}': the front matter has no closing '---'", remedy="close it or remove the first line")
    text = "\n".join(lines[1:end])
    if len(text) > _MAX_FRONT_MATTER:
        raise BadUpload(f"'{owner}': front matter of {len(text)} characters, at most {_MAX_FRONT_MATTER}")
    try:
        data = yaml.safe_load(text)
        if isinstance(data, dict) and "mixhub" in data:
            # labels such as `yes` or `1` must stay the words that were written, not become True and 1
            data["mixhub"] = yaml.load(text, Loader=yaml.BaseLoader)["mixhub"]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadUpload(f"'{owner}': the front matter is not valid YAML: {error}", remedy="repair README.md") from error
    if data is None:
        return {}
    _check_size(data, owner)
    if not isinstance(data, dict):
        raise BadUpload(f"'{owner}': the front matter is not a mapping of names to values", remedy="repair README.md")
    return data


def _check_size(value: object, owner: str) -> None:
    """BadUpload for YAML whose aliases stand for more than they take, or for themselves."""
    waiting, seen = [value], 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if seen > _MAX_VALUES:
            raise BadUpload(f"'{owner}': the front matter holds more than {_MAX_VALUES} values")
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set):
            waiting.extend(item)


def _tags(front: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    for kind, key in (("task", "pipeline_tag"), ("task", "task"), ("dataset", "datasets")):
        yield from ((kind, text, "") for text in _texts(front.get(key)))
    yield from (("tag", text, "") for text in _texts(front.get("tags")))
    yield from (("metric", text, "") for text in _texts(front.get("metrics")))
    for model in _mappings(front.get("model-index")):
        for result in _mappings(model.get("results")):
            for task in _mappings([result.get("task")]):
                yield from (("task", text, "") for text in _texts(task.get("name") or task.get("type")))
            for metric in _mappings(result.get("metrics")):
                name = _text(metric.get("name") or metric.get("type"))
                if name:
                    yield "metric", name, str(metric.get("value", ""))


def _contract(data: object, card: Path) -> UsageContract:
    if data is None or data == "":
        return UsageContract()
    if not isinstance(data, dict):
        raise BadUpload(f"'{card}': 'mixhub:' is not a mapping", remedy="see 'mixhub publish --help' for its keys")
    unknown = set(data) - set(UsageContract.__dataclass_fields__)
    if unknown:
        known = ", ".join(UsageContract.__dataclass_fields__)
        raise BadUpload(f"'{card}': unknown key 'mixhub: {sorted(map(str, unknown))[0]}'", remedy=f"known: {known}")
    labels, stops, weight = data.get("label_texts"), data.get("stop_strings"), data.get("suggested_weight")
    if labels is not None and not isinstance(labels, dict):
        raise BadUpload(f"'{card}': 'mixhub: label_texts' is not a mapping of label to text")
    return UsageContract(
        prompt_template=_text(data.get("prompt_template")),
        chat_template=_text(data.get("chat_template")),
        label_texts=None if labels is None else {str(k): str(v) for k, v in labels.items()},
        stop_strings=None if stops is None else tuple(_texts(stops)),
        suggested_weight=None if weight is None else _number(weight, card),
    )


def _number(value: object, card: Path) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadUpload(f"'{card}': 'mixhub: suggested_weight' is '{value}', expected a number")
    return number


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _first_text(value: object) -> str | None:
    return next(iter(_texts(value)), None)


def _texts(value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [text for item in items if (text := _text(item))]


def _mappings(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
