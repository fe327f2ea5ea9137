"""mixhub_training_rows.txt: digests of the rows that an adapter was trained on, so that examples which it has seen can
be told without publishing the rows.

A line each: the first 16 hex digits of the sha256 of the row, sorted, after one line that says so. A row is normalised
first (Unicode NFKC, white space as single spaces), so that a copy with other spacing is found. Whoever has a row can
tell whether it is in the file; nothing else can be read from it.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from .errors import BadExamples
from .examples import Example

TRAINING_ROWS_FILE = "mixhub_training_rows.txt"
HEADER = "# sha256 of each training row [input, output], normalised; first 16 hex digits"
_DIGEST = re.compile(r"[0-9a-f]{16}")


def row_digest(example: Example) -> str:
    """16 hex digits: with 2**64 values a row is mistaken for one of a million others once in 10**13 times."""
    text = json.dumps([_normal(example.input), _normal(example.output)], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def training_rows_text(rows: Iterable[Example]) -> str:
    """The file's text; the same rows in any order give the same bytes."""
    return "\n".join([HEADER, *sorted({row_digest(row) for row in rows})]) + "\n"


def read_training_rows(folder: Path, *, owner: str) -> frozenset[str] | None:
    """The digests beside the adapter in `folder`; None where nothing was recorded. `BadExamples` names a bad line."""
    path = folder / TRAINING_ROWS_FILE
    if not path.is_file():
        return None
    found = set()
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(map(str.strip, lines), 1):
            if not line or line.startswith("#"):
                continue
            if not _DIGEST.fullmatch(line):
                raise BadExamples(
                    f"{owner}: {TRAINING_ROWS_FILE} line {number} is {line[:40]!r}, expected 16 hex digits",
                    remedy="publish it again with --training-data ROWS.jsonl",
                )
            found.add(line)
    return frozenset(found)


def overlap(examples: Iterable[Example], digests: frozenset[str]) -> list[int]:
    """The numbers (from 1) of the examples that are among the training rows."""
    return [number for number, example in enumerate(examples, 1) if row_digest(example) in digests]


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())
