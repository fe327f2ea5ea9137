"""Which few-shot examples an adapter was trained on, as far as its publisher recorded it (compose/training_rows.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compose.examples import Examples
from compose.training_rows import TRAINING_ROWS_FILE, overlap, read_training_rows, training_rows_text
from hub.local_files import LocalFile

if TYPE_CHECKING:
    from hub.actions.compose import PinnedPart


def with_training_rows(files: Sequence[LocalFile], rows: Examples, *, into: str, scratch: Path) -> list[LocalFile]:
    """`files` with the digests of `rows` among them, in place of older ones; the new file is written to `scratch`."""
    source = scratch / TRAINING_ROWS_FILE
    source.write_text(training_rows_text(rows), encoding="utf-8", newline="\n")
    path = f"{into}/{TRAINING_ROWS_FILE}" if into else TRAINING_ROWS_FILE
    kept = [file for file in files if file.path != path]
    return sorted([*kept, LocalFile(path, source, source.stat().st_size)], key=lambda file: file.path)


def overlaps(parts: Sequence[PinnedPart], examples: Examples) -> dict[str, list[int]]:
    """Adapter -> numbers of the examples among its training rows; only adapters that have any."""
    found = {}
    for part in parts:
        digests = read_training_rows(part.directory, owner=part.name)
        if digests and (numbers := overlap(examples, digests)):
            found[part.name] = numbers
    return found


def overlap_notes(parts: Sequence[PinnedPart], examples: Examples) -> list[str]:
    """A sentence for each such adapter."""
    return [
        f"{len(numbers)} of {len(examples)} examples are in the recorded training data of {name} (examples "
        f"{_listed(numbers)}); how well it does on them says little"
        for name, numbers in overlaps(parts, examples).items()
    ]


def _listed(numbers: Sequence[int], most: int = 10) -> str:
    return ", ".join(map(str, numbers[:most])) + (" ..." if len(numbers) > most else "")
