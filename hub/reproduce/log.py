"""Finished runs on disk, a line of JSON each, so that a table of many hours goes on where it was interrupted."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from hub.errors import UsageError
from hub.reproduce.lorahub_bbh import Run, Settings


def read_log(path: Path, settings: Settings) -> list[Run]:
    """The runs in `path`; none where it does not exist. `UsageError` for runs with other settings."""
    if not path.is_file():
        return []
    runs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            made_with = row.pop("settings")
            run = Run(**{**row, "modules": tuple(row["modules"]), "weights": tuple(row["weights"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path} line {number} is no finished run", remedy="give another --log") from error
        if made_with != _what_counts(settings):
            raise UsageError(f"{path} line {number} was run with other settings", remedy="give another --log")
        runs.append(run)
    return runs


def append_to_log(path: Path, run: Run, settings: Settings) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**asdict(run), "settings": _what_counts(settings)}) + "\n")


def _what_counts(settings: Settings) -> dict[str, object]:
    """Seeds may be added, and the device is no part of the result."""
    return {
        "steps": settings.steps,
        "search": settings.search,
        "rows": settings.rows,
        "new_tokens": settings.new_tokens,
    }
