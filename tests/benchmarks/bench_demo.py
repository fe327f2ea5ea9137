"""Does mixing help on the demo's held-out tasks? Exact match on fresh test strings, of several ways to choose weights.

    python tests/benchmarks/bench_demo.py [--draws 2,3,4] [--tests 100] [--budget 40] [--methods default,lorahub]
        [--only TASK] [--json FILE]

15 adapters of the shipped T5, 16 tasks that none of them was trained on, 16 examples (`quality/demo_tasks.py`). The
methods, figures and tables are those of `bench_quality.py`; accuracy is exact match of greedy outputs. Settings are
chosen on draws 0 and 1 and reported on the others. Times are CPU seconds of one torch thread.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from quality.benchmark import Benchmark, finished, run_with_progress, write
from quality.cell import TaskBench
from quality.demo_tasks import SHOTS, demo_tasks
from quality.methods import METHODS, methods_of
from quality.report import Row, duel_table, summaries

import compose.nevergrad_search  # noqa: F401 (loaded before the searches are timed)
from compose.peft_files import read_adapter
from compose.scoring import load_base
from hub.demo.run import CONTENT, index


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", default=[2, 3, 4], type=lambda words: [int(one) for one in words.split(",")])
    parser.add_argument("--tests", type=int, default=100, help="test strings of a task and draw")
    parser.add_argument("--budget", type=int, default=40, help="evaluations of a search")
    parser.add_argument("--methods", default=list(METHODS), type=methods_of)
    parser.add_argument("--only", help="one task")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def loaded(options: argparse.Namespace) -> Benchmark:
    adapters = [read_adapter(CONTENT / "adapters" / one["name"], name=one["name"]) for one in index()["adapters"]]
    base = load_base(CONTENT / "base")

    @cache
    def benches(draw: int) -> list[TaskBench]:
        tasks = demo_tasks(draw, test_rows=options.tests, only=options.only)
        return [TaskBench(task, base, adapters) for task in tasks]

    return Benchmark(
        benches, draws=options.draws, shots=[SHOTS], methods=options.methods, budget=options.budget,
        settings={"test_rows": options.tests, "only": options.only},
        log=options.json and options.json.with_suffix(".jsonl"),
    )  # fmt: skip


def with_exact_match(document: Row) -> Row:
    """Accuracy also under the name that it has for texts, as a share."""
    methods = summaries(document["cells"])
    named = {key: {**row, "exact_match": round(row["accuracy"] / 100, 5)} for key, row in methods.items()}
    return {**document, **named}


def main(arguments: list[str]) -> None:
    options = parsed(arguments)
    torch.set_num_threads(1)
    benchmark = loaded(options)
    run_with_progress(benchmark)
    document = finished(benchmark)
    print(f"\nWon/lost by the method of a line against that of a column\n\n{duel_table(document, SHOTS)}")
    if options.json:
        write(with_exact_match(document), options.json)


if __name__ == "__main__":
    main(sys.argv[1:])
