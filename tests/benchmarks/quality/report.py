"""From cells to tables. A task's gain is the mean over its draws of (accuracy - zero-shot accuracy), in points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any, Literal

Row = dict[str, Any]
DEFAULT = "default"
CHOOSING_DRAWS = (0, 1)
"""Settings are chosen on these draws; the others report."""
PARTS: dict[str, Callable[[int], bool]] = {
    "choosing": lambda draw: draw in CHOOSING_DRAWS,
    "reporting": lambda draw: draw not in CHOOSING_DRAWS,
}


def figures(cells: Sequence[Row]) -> Row:
    """What `--json` says of the cells."""
    parts = {"choosing": summaries(cells, "choosing"), "reporting": summaries(cells, "reporting")}
    leads = {"all": default_against(cells), "reporting": default_against(_of(cells, "reporting"))}
    return {**summaries(cells), **parts, "default_against": leads}


def tables(cells: Sequence[Row]) -> str:
    """The same in Markdown."""
    parts: list[tuple[str, Sequence[Row]]] = [
        (f"Draws {CHOOSING_DRAWS}, for choosing settings", _of(cells, "choosing")),
        ("The other draws", _of(cells, "reporting")),
    ]
    parts = [*(parts if all(rows for _, rows in parts) else []), ("All draws", cells)]
    said = [
        f"Mean test accuracy (%), {shots} examples\n\n{accuracy_table(cells, shots)}"
        for shots in sorted({cell["shots"] for cell in cells})
    ]
    said += [f"{title}: gains over zero-shot in points\n\n{summary_table(summaries(rows))}" for title, rows in parts]
    said += [
        f"{title}: the default against each other method, cells won/lost and mean difference in points\n\n"
        + default_table(default_against(rows))
        for title, rows in parts[-2:]
    ]
    return "\n\n".join(said)


def summaries(cells: Sequence[Row], part: Literal["choosing", "reporting"] | None = None) -> dict[str, Row]:
    """ "method_shots" -> its figures over all tasks, and the draws of one part or all of them."""
    chosen = _of(cells, part) if part else cells
    groups = dict.fromkeys((cell["shots"], cell["method"]) for cell in sorted(chosen, key=lambda c: c["shots"]))
    return {f"{method}_{shots}": _summary(chosen, shots, method) for shots, method in groups}


def _of(cells: Sequence[Row], part: Literal["choosing", "reporting"]) -> list[Row]:
    return [cell for cell in cells if PARTS[part](cell["draw"])]


def _summary(cells: Sequence[Row], shots: int, method: str) -> Row:
    rows = [cell for cell in cells if cell["shots"] == shots and cell["method"] == method]
    by_task = _by_task(rows, "gain")
    gains = [row["gain"] for row in rows]
    won, lost = _duel(rows, cells, "best_single")
    return {
        "mean_gain": round(fmean(by_task.values()), 3),
        "worst_task_gain": round(min(by_task.values()), 3),
        "worst_cell_gain": round(min(gains), 3),
        "wins": sum(gain > 0 for gain in gains),
        "losses": sum(gain < 0 for gain in gains),
        "wins_over_best_single": won,
        "losses_to_best_single": lost,
        "against": {other: _duel(rows, cells, other) for other in _methods(cells)},
        **_accuracy(rows),
        "evaluations": round(fmean(row["evaluations"] for row in rows), 1),
        "seconds": round(fmean(row["seconds"] for row in rows), 2),
        "cells": len(rows),
    }


def _accuracy(rows: Sequence[Row]) -> Row:
    """The mean over tasks, in percent, of all draws and of the lowest and the highest of them."""
    by_draw = [
        fmean(_by_task((row for row in rows if row["draw"] == draw), "accuracy").values())
        for draw in sorted({row["draw"] for row in rows})
    ]
    mean = fmean(_by_task(rows, "accuracy").values())
    return {"accuracy": round(mean, 3), "lowest_draw": round(min(by_draw), 3), "highest_draw": round(max(by_draw), 3)}


def _duel(rows: Sequence[Row], cells: Sequence[Row], other: str) -> list[int]:
    """[won, lost] on the cells that both methods have."""
    ahead = _ahead(rows, cells, other)
    return [sum(gain > 0 for gain in ahead), sum(gain < 0 for gain in ahead)]


def _ahead(rows: Sequence[Row], cells: Sequence[Row], other: str) -> list[float]:
    """How far `rows` are ahead, in points, on the cells that the other method has too."""
    theirs = {_place(cell): cell["gain"] for cell in cells if cell["method"] == other}
    return [row["gain"] - theirs[_place(row)] for row in rows if _place(row) in theirs]


def default_against(cells: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Number of examples -> other method -> the default's wins, losses and mean difference, in points."""
    found: dict[str, dict[str, Row]] = {}
    for shots in sorted({cell["shots"] for cell in cells}):
        rows = [cell for cell in cells if cell["shots"] == shots and cell["method"] == DEFAULT]
        for other in _methods(cells):
            if other != DEFAULT and (ahead := _ahead(rows, cells, other)):
                won, lost = _duel(rows, cells, other)
                found.setdefault(str(shots), {})[other] = {
                    "wins": won, "losses": lost, "mean_difference": round(fmean(ahead), 3), "cells": len(ahead),
                }  # fmt: skip
    return found


def _methods(cells: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(cell["method"] for cell in cells))


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
    methods = _methods(here)
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


def default_table(against: dict[str, dict[str, Row]]) -> str:
    """Markdown: the other methods down, numbers of examples across."""
    others = list(dict.fromkeys(other for found in against.values() for other in found))
    lines = [[other, *(_lead(found.get(other)) for found in against.values())] for other in others]
    return _markdown(["default against", *(f"{shots} examples" for shots in against)], lines)


def _lead(found: Row | None) -> str:
    return f"{found['wins']}/{found['losses']}, {found['mean_difference']:+.1f}" if found else "-"


def duel_table(found: dict[str, Row], shots: int) -> str:
    """Markdown: cells that the method of a line won/lost against the method of a column."""
    rows = {key.removesuffix(f"_{shots}"): row for key, row in found.items() if key.endswith(f"_{shots}")}
    lines = [
        [method, *("" if other == method else "{}/{}".format(*row["against"][other]) for other in rows)]
        for method, row in rows.items()
    ]
    return _markdown(["won/lost", *rows], lines)


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))
