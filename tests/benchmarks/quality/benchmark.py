"""Runs the cells of a benchmark: every method on every task, few-shot draw and number of examples.

With a log, finished cells are kept, and a run that was interrupted continues there.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from quality.cell import Cell, Draw, TaskBench
from quality.methods import METHODS
from quality.report import Row, figures, tables
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Benchmark:
    """`benches(draw)` are the tasks of a draw; `log` is a .jsonl file of finished cells, made with the same `settings`.

    `SystemExit` when the log was made with other settings or rows.
    """

    def __init__(
        self,
        benches: Callable[[int], Sequence[TaskBench]],
        *,
        draws: Sequence[int],
        shots: Sequence[int],
        methods: Sequence[str],
        budget: int,
        settings: dict[str, Any],
        log: Path | None,
    ) -> None:
        self._benches, self._draws, self._shots, self._methods = benches, draws, shots, methods
        self._budget, self.settings, self._log = budget, {"budget": budget, **settings}, log
        self.machine = machine()
        self.cells = self._earlier_cells()

    def missing(self) -> list[tuple[TaskBench, int, int, str]]:
        """(task, draw, shots, method) still to do, draws outermost: a stopped run has whole draws."""
        done = {(c["task"], c["draw"], c["shots"], c["method"]) for c in self.cells}
        return [
            (bench, draw, shots, method)
            for draw in self._draws
            for bench in self._benches(draw)
            for shots in self._shots
            for method in self._methods
            if (bench.task.name, draw, shots, method) not in done
        ]

    def run(self) -> Iterator[Row]:
        """Does what is missing, one cell at a time."""
        draw: Draw | None = None
        for bench, number, shots, method in self.missing():
            if draw is None or (draw.bench, draw.number) != (bench, number):
                draw = Draw(bench, number, max(self._shots))
            cell = Cell(draw, shots=shots, budget=self._budget)
            row = {**measure(cell, method), "commit": self.machine["commit"]}
            self.cells.append(row)
            self._append(row)
            yield row

    def _earlier_cells(self) -> list[Row]:
        if self._log is None:
            return []
        if not self._log.exists():
            self._append({"settings": self.settings})
            return []
        head, *rows = [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]
        if head["settings"] != self.settings:
            raise SystemExit(f"{self._log} was made with other settings; delete it to begin again")
        digests = {(b.task.name, draw): b.task.digest for draw in self._draws for b in self._benches(draw)}
        if any(digests.get((row["task"], row["draw"]), row["rows"]) != row["rows"] for row in rows):
            raise SystemExit(f"{self._log} was made with other rows; delete it to begin again")
        return rows

    def _append(self, row: Row) -> None:
        if self._log is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def run_with_progress(benchmark: Benchmark) -> None:
    """Does what is missing; progress to standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("cells", total=len(benchmark.missing()))
        for row in benchmark.run():
            name = f"{row['task']} {row['shots']} examples, draw {row['draw']}, {row['method']}: {row['gain']:+.1f}"
            progress.update(bar, advance=1, description=name)


def finished(benchmark: Benchmark) -> Row:
    """What `--json` writes. The tables are printed."""
    cells = benchmark.cells
    order = {method: i for i, method in enumerate(METHODS)}
    # a log may hold cells of methods that are gone, such as an earlier state of the search: they come last
    cells.sort(key=lambda c: (c["draw"], c["task"], c["shots"], order.get(c["method"], len(order)), c["method"]))
    about = {**benchmark.machine, "commit": ", ".join(sorted({str(cell["commit"]) for cell in cells}))}
    print(f"{tables(cells)}\n\n{about}\n{benchmark.settings}")
    return {**figures(cells), "machine": about, "commit": about["commit"], "settings": benchmark.settings,
            "cells": cells}  # fmt: skip


def write(document: Row, path: Path) -> None:
    """As JSON, a cell a line."""
    cells = ",\n".join("  " + json.dumps(cell) for cell in document["cells"])
    head = json.dumps({key: value for key, value in document.items() if key != "cells"}, indent=1)[:-2]
    path.write_text(f'{head},\n "cells": [\n{cells}\n ]\n}}\n', encoding="utf-8")


def measure(cell: Cell, method: str) -> Row:
    """The method chooses on the few-shot examples; then, not timed, its choice is tested."""
    bench = cell.draw.bench
    began = time.process_time()
    found = METHODS[method](cell)
    seconds = time.process_time() - began + cell.seconds_off
    accuracy = bench.accuracy_of(found.adapter) if found.adapter else bench.accuracy(found.merge, found.weights)
    zero_shot = METHODS["base"](cell)
    return {
        "task": bench.task.name,
        "shots": cell.shots,
        "draw": cell.draw.number,
        "method": method,
        "accuracy": round(accuracy, 3),
        "gain": round(accuracy - bench.accuracy(zero_shot.merge, zero_shot.weights), 3),
        "loss": found.loss,
        "evaluations": found.evaluations,
        "seconds": round(seconds, 3),
        "fell_back": found.fell_back,
        "weights": [round(weight, 5) for weight in found.weights],
        "rows": bench.task.digest,
    }


def machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line] \
        if cpuinfo.exists() else []  # fmt: skip
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "commit": git.stdout.strip() or None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
