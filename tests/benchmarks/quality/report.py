"""From cells to tables. A task's gain is the mean over its draws of (accuracy - zero-shot accuracy), in points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any, Literal

Row = dict[str, Any]
CHOOSING_DRAWS = (0, 1)
"""Settings are chosen on these draws; the others report."""
PARTS: dict[str, Callable[[int], bool]] = {
    "choosing": lambda draw: draw in CHOOSING_DRAWS,
    "reporting": lambda draw: draw not in CHOOSING_DRAWS,
}


def summaries(cells: Sequence[Row], part: Literal["choosing", "reporting"] | None = None) -> dict[str, Row]:
    """ "method_shots" -> its figures over all tasks, and the draws of one part or all of them."""
    chosen = [cell for cell in cells if part is None or PARTS[part](cell["draw"])]
    groups = dict.fromkeys((cell["shots"], cell["method"]) for cell in sorted(chosen, key=lambda c: c["shots"]))
    return {f"{method}_{shots}": _summary(chosen, shots, method) for shots, method in groups}


def _summary(cells: Sequence[Row], shots: int, method: str) -> Row:
    rows = [cell for cell in cells if cell["shots"] == shots and cell["method"] == method]
    by_task = _by_task(rows, "gain")
    gains = [row["gain"] for row in rows]
    single = {_place(cell): cell["gain"] for cell in cells if cell["method"] == "best_single"}
    ahead = [row["gain"] - single[_place(row)] for row in rows if _place(row) in single]
    return {
        "mean_gain": round(fmean(by_task.values()), 3),
        "worst_task_gain": round(min(by_task.values()), 3),
        "worst_cell_gain": round(min(gains), 3),
        "wins": sum(gain > 0 for gain in gains),
        "losses": sum(gain < 0 for gain in gains),
        "wins_over_best_single": sum(gain > 0 for gain in ahead),
        "losses_to_best_single": sum(gain < 0 for gain in ahead),
        "against": {other: _duel(rows, cells, other) for other in dict.fromkeys(cell["method"] for cell in cells)},
        "evaluations": round(fmean(row["evaluations"] for row in rows), 1),
        "seconds": round(fmean(row["seconds"] for row in rows), 2),
        "cells": len(rows),
    }


def _duel(rows: Sequence[Row], cells: Sequence[Row], other: str) -> list[int]:
    """[won, lost] on the cells that both methods have."""
    theirs = {_place(cell): cell["gain"] for cell in cells if cell["method"] == other}
    ahead = [row["gain"] - theirs[_place(row)] for row in rows if _place(row) in theirs]
    return [sum(gain > 0 for gain in ahead), sum(gain < 0 for gain in ahead)]


def _place(cell: Row) -> tuple[str, int, int]:
    return cell["task"], cell["shots"], cell["draw"]


def _by_task(rows: Iterable[Row], what: str) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["task"], []).append(row[what])
    return {task: fmean(values) for task, values in found.items()}


def accuracy_table(cells: Sequence[Row], shots: int) -> str:
    """Markdown: tasks down, methods across, mean test accuracy (%) over the draws."""
    here = [cell for cell in cells if cell["shots"] == shots]
    methods = list(dict.fromkeys(cell["method"] for cell in here))
    columns = {method: _by_task((c for c in here if c["method"] == method), "accuracy") for method in methods}
    tasks = list(dict.fromkeys(cell["task"] for cell in here))
    lines = [[task, *(f"{columns[m][task]:.1f}" if task in columns[m] else "-" for m in methods)] for task in tasks]
    means = ["mean gain", *(f"{_summary(cells, shots, method)['mean_gain']:+.1f}" for method in methods)]
    return _markdown(["task", *methods], [*lines, means])


def summary_table(found: dict[str, Row]) -> str:
    """Markdown: one line per method and number of examples."""
    head = ["method_examples", "mean gain", "worst task", "worst cell", "won/lost against zero-shot",
            "against best single", "evaluations", "CPU s", "cells"]  # fmt: skip
    lines = [
        [
            key, f"{row['mean_gain']:+.1f}", f"{row['worst_task_gain']:+.1f}", f"{row['worst_cell_gain']:+.1f}",
            f"{row['wins']}/{row['losses']}", f"{row['wins_over_best_single']}/{row['losses_to_best_single']}",
            f"{row['evaluations']:g}", f"{row['seconds']:.1f}", str(row["cells"]),
        ]
        for key, row in found.items()
    ]  # fmt: skip
    return _markdown(head, lines)


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))
