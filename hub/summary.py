"""What listings show of a revision: the card's front matter, and tags derived from card and adapters.

Cards written by `push_to_hub` name neither base model nor library, so what they lack comes from adapter_config.json.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hub.card_facts import front_matter
from storage.adapters import AdapterFacts

CARD = "README.md"
MAX_CARD = 4 * 2**20
PIPELINE = {
    "CAUSAL_LM": "text-generation",
    "SEQ_2_SEQ_LM": "text2text-generation",
    "SEQ_CLS": "text-classification",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
    "FEATURE_EXTRACTION": "feature-extraction",
}
"""PEFT's task type -> the Hub's pipeline tag."""


def card_data(folder: Path) -> dict[str, Any]:
    """The front matter of README.md in `folder` as plain JSON; empty where there is none."""
    card = folder / CARD
    if not card.is_file() or card.stat().st_size > MAX_CARD:
        return {}
    return {str(key): _plain(value) for key, value in front_matter(card).items()}


def tags_of(card: Mapping[str, Any], adapters: Sequence[AdapterFacts]) -> set[str]:
    """What `filter=` finds a revision by."""
    return {tag for tag in (*_from_card(card), *_from_adapters(card, adapters)) if tag and "\0" not in tag}


def pipeline_tag(card: Mapping[str, Any], adapters: Sequence[AdapterFacts]) -> str | None:
    """As the card says, else by the task type of the first adapter."""
    written = card.get("pipeline_tag")
    if isinstance(written, str):
        return written
    return next((PIPELINE[a.task_type] for a in adapters if a.task_type in PIPELINE), None)


def library_name(card: Mapping[str, Any], adapters: Sequence[AdapterFacts]) -> str | None:
    """A repo with an adapter is PEFT's, whatever template its card was made from."""
    written = card.get("library_name")
    return "peft" if adapters else written if isinstance(written, str) else None


def _from_card(card: Mapping[str, Any]) -> Iterator[str]:
    yield from _texts(card.get("tags"))
    yield from _texts(card.get("library_name"))
    yield from _texts(card.get("language"))
    yield from (f"dataset:{name}" for name in _texts(card.get("datasets")))
    yield from (f"license:{name}" for name in _texts(card.get("license")))
    for base in _texts(card.get("base_model")):
        yield f"base_model:{base}"
        if isinstance(relation := card.get("base_model_relation"), str):
            yield f"base_model:{relation}:{base}"


def _from_adapters(card: Mapping[str, Any], adapters: Sequence[AdapterFacts]) -> Iterator[str]:
    yield library_name(card, adapters) or ""
    yield pipeline_tag(card, adapters) or ""
    for adapter in adapters:
        named = [adapter.base_model_name] if adapter.base_model_name else []
        for base in (*named, *_texts(card.get("base_model"))):
            yield f"base_model:{base}"
            yield f"base_model:adapter:{base}"
        if adapter.peft_type:
            yield adapter.peft_type.lower()
            yield f"peft_type:{adapter.peft_type}"
        if adapter.task_type:
            yield f"task_type:{adapter.task_type}"
        yield from (f"rank:{rank}" for rank in set(adapter.ranks.values()))
        yield from (tag.name for tag in adapter.tags if tag.kind in ("task", "tag"))
        yield f"license:{adapter.licence}" if adapter.licence else ""


def _texts(value: object) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            yield item


def _plain(value: object) -> Any:
    """YAML as JSON that every database keeps: dates and odd numbers become text, NULs go."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in _ordered(value)]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value).replace("\0", "").encode("utf-8", "replace").decode()


def _ordered(value: Iterable[object]) -> Iterable[object]:
    return sorted(value, key=str) if isinstance(value, set) else value
