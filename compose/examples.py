"""Few-shot examples and label texts, read from files; every refusal names the file and the line.

Knows nothing of tokenizers, models or losses. A row is `{"input": "...", "output": "..."}` on a line of its own (JSONL,
UTF-8, with or without a byte order mark, any line end), and may name the `"choices"` that its output is one of; other
keys are kept out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .errors import BadExamples

ROW = 'write each line as {"input": "...", "output": "..."}'


@dataclass(frozen=True)
class Example:
    """One task example: the text that goes in and the text that should come out (never empty). `choices`: the texts
    that the output is one of, where the row names them."""

    input: str
    output: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examples:
    """At least one example, in file order."""

    rows: tuple[Example, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise BadExamples("there are no examples", remedy=ROW)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.rows)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the rows in a canonical form: the same examples give the same digest from any file."""
        rows = [[row.input, row.output, *([list(row.choices)] if row.choices else [])] for row in self.rows]
        canonical = json.dumps(rows, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def read_examples(path: Path) -> Examples:
    """Read a JSONL file of examples. Blank lines are passed over; anything else that is not a row is `BadExamples`."""
    # only "\n" ends a line: str.splitlines would also cut at U+2028 inside a JSON string
    lines = _read_text(path).split("\n")
    rows = tuple(_parsed(line, f"{path.name} line {number}") for number, line in enumerate(lines, 1) if line.strip())
    if not rows:
        raise BadExamples(f"{path.name} holds no examples", remedy=ROW)
    return Examples(rows)


def examples_of(rows: Iterable[object]) -> Examples:
    """The same from rows in memory, checked like those of a file; `BadExamples` names the row, counted from 1."""
    return Examples(tuple(_row(row, f"row {number}") for number, row in enumerate(rows, 1)))


def read_labels(path: Path) -> dict[str, str]:
    """Read a JSON object of label -> the text that stands for it; the order of the file is kept."""
    try:
        labels = json.loads(_read_text(path), object_pairs_hook=_refuse_twins)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadExamples(f"{path.name} is not JSON: {error}", remedy=_LABELS) from error
    except _TwinKey as error:
        raise BadExamples(f"{path.name} names the label {error.args[0]!r} twice", remedy=_LABELS) from error
    if not isinstance(labels, dict) or len(labels) < 2:
        raise BadExamples(f"{path.name} must be a JSON object with at least two labels", remedy=_LABELS)
    for label, text in labels.items():
        if not isinstance(text, str) or not text.strip():
            raise BadExamples(f"{path.name}: the text of label {label!r} is {text!r}, not a text", remedy=_LABELS)
    return labels


def default_labels(examples: Examples) -> dict[str, str]:
    """The distinct outputs, sorted, each standing for itself."""
    return {output: output for output in sorted({row.output for row in examples})}


_LABELS = 'write {"label": "the text that stands for it", ...}'


class _TwinKey(Exception):
    """A key that stands twice in one JSON object."""


def _refuse_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise _TwinKey(key)
        found[key] = value
    return found


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadExamples(f"cannot read {path}: {error.strerror}", remedy="check the path") from error
    except UnicodeDecodeError as error:
        raise BadExamples(f"{path.name} is not UTF-8 text (byte {error.start})", remedy="save it as UTF-8") from error


def _parsed(line: str, where: str) -> Example:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadExamples(f"{where} is not JSON: {error}", remedy=ROW) from error
    return _row(row, where)


def _row(row: object, where: str) -> Example:
    if not isinstance(row, Mapping):
        raise BadExamples(f"{where} is a {type(row).__name__}, not an object", remedy=ROW)
    output = _output(row, where)
    return Example(input=_text(row, "input", where), output=output, choices=_choices(row, output, where))


def _choices(row: Mapping[str, object], output: str, where: str) -> tuple[str, ...]:
    choices = row.get("choices", ())
    if choices is None or choices == () or choices == []:
        return ()
    remedy = 'write "choices": ["one", "two", ...], the output among them'
    if not isinstance(choices, list | tuple):
        raise BadExamples(f"{where}: 'choices' is {choices!r}, not a list of texts", remedy=remedy)
    texts = tuple(_text({"choices": choice}, "choices", where) for choice in choices)
    if len(set(texts)) < len(texts) or len(texts) < 2 or not all(text.strip() for text in texts):
        raise BadExamples(f"{where}: 'choices' needs two or more texts, all different and not empty", remedy=remedy)
    if output not in texts:
        raise BadExamples(f"{where}: the output {output!r} is none of its choices {list(texts)}", remedy=remedy)
    return texts


def _text(row: Mapping[str, object], key: str, where: str) -> str:
    if key not in row:
        raise BadExamples(f"{where} has no {key!r} (it has {', '.join(map(repr, row)) or 'nothing'})", remedy=ROW)
    value = row[key]
    if not isinstance(value, str):
        raise BadExamples(f"{where}: {key!r} is {value!r}, not a text", remedy=ROW)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadExamples(f"{where}: {key!r} holds half of a surrogate pair", remedy=ROW) from error
    return value


def _output(row: Mapping[str, object], where: str) -> str:
    output = _text(row, "output", where)
    if not output.strip():
        raise BadExamples(f"{where}: 'output' is empty", remedy=ROW)
    return output
