"""The digests of an adapter's training rows, among the files that are published (compose/training_rows.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compose.examples import Examples
from compose.training_rows import TRAINING_ROWS_FILE, training_rows_text
from hub.local_files import LocalFile


def with_training_rows(files: Sequence[LocalFile], rows: Examples, *, into: str, scratch: Path) -> list[LocalFile]:
    """`files` with the digests of `rows` among them, in place of older ones; the new file is written to `scratch`."""
    source = scratch / TRAINING_ROWS_FILE
    source.write_text(training_rows_text(rows), encoding="utf-8", newline="\n")
    path = f"{into}/{TRAINING_ROWS_FILE}" if into else TRAINING_ROWS_FILE
    kept = [file for file in files if file.path != path]
    return sorted([*kept, LocalFile(path, source, source.stat().st_size)], key=lambda file: file.path)
