"""LoRAHub's table on BIG-Bench Hard (arXiv 2307.13269), as `reproduce_bbh.py` of its repository computes it.

For every task the same 5 examples (drawn with seed 42); for every seed 1 to 5 another 20 of the 196 modules, NGOpt for
40 steps from 0, and the accuracy of greedy answers on all test rows. A task's entry is the mean over the seeds, and the
best. What differs from there: scoring several candidates or rows in one forward, which rounds a little otherwise.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from compose.errors import BadExamples
from compose.examples import Example, Examples
from hub.errors import UsageError

BASE = "google/flan-t5-large"
MODULES, EXAMPLES, STEPS = 20, 5, 40
DRAW_SEED = SEARCH_SEED = 42
SEEDS = (1, 2, 3, 4, 5)
NEW_TOKENS = 256


@dataclass(frozen=True)
class Material:
    """What the table is made from. `modules` in the order from which they are drawn; `adapter` gives a module's folder,
    which may take a download; `tasks` holds `TASK/example.jsonl` and `TASK/zero_shot.jsonl`."""

    base: Path
    modules: tuple[str, ...]
    adapter: Callable[[str], Path]
    tasks: Path

    def task_names(self) -> list[str]:
        return sorted(place.name for place in self.tasks.iterdir() if (place / "zero_shot.jsonl").is_file())


@dataclass(frozen=True)
class Settings:
    """`seeds` draw the modules. `search` is "lorahub" for the paper's algorithm, or "default" for ours in its place.
    `rows`: test rows of each task, None for all; `new_tokens`: of an answer at most."""

    seeds: tuple[int, ...] = SEEDS
    steps: int = STEPS
    search: str = "lorahub"
    rows: int | None = None
    new_tokens: int = NEW_TOKENS
    device: str = "cpu"


@dataclass(frozen=True)
class Run:
    """One search: accuracy on the task's test rows, in percent. Seed 0 is the base alone."""

    task: str
    seed: int
    accuracy: float
    modules: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class TaskRow:
    """A line of the table, in percent."""

    task: str
    base: float
    mean: float
    best: float


def reproduce(
    material: Material, tasks: Sequence[str], settings: Settings, *, done: Sequence[Run] = ()
) -> Iterator[Run]:
    """Every run of the table, as it is finished; those that are `done` are not run again."""
    from compose.scoring.loading import load_base

    known = material.task_names()
    unknown = [task for task in tasks if task not in known]
    if unknown or not known:
        raise UsageError(
            f"there is no task {', '.join(unknown) or 'at all'} in {material.tasks}",
            remedy=f"one of: {', '.join(known)}",
        )
    finished = {(run.task, run.seed) for run in done}
    base = load_base(material.base, device=settings.device)
    for task in tasks or known:
        examples = draw_examples(_rows(material.tasks / task / "example.jsonl"))
        test = _rows(material.tasks / task / "zero_shot.jsonl")[: settings.rows]
        for seed in (0, *settings.seeds):
            if (task, seed) not in finished:
                yield _run(base, material, task, seed, examples, test, settings)


def table_rows(runs: Sequence[Run]) -> list[TaskRow]:
    """A line for each task that has its base and at least one seed, and their mean as the last."""
    rows = []
    for task in dict.fromkeys(run.task for run in runs):
        base = [run.accuracy for run in runs if run.task == task and run.seed == 0]
        found = [run.accuracy for run in runs if run.task == task and run.seed != 0]
        if base and found:
            rows.append(TaskRow(task, base[0], fmean(found), max(found)))
    if rows:
        means = (fmean(row.base for row in rows), fmean(row.mean for row in rows), fmean(row.best for row in rows))
        rows.append(TaskRow(f"mean of {len(rows)}", *means))
    return rows


def draw_examples(rows: Sequence[Example]) -> Examples:
    """The 5 examples of a task: the first of all, shuffled with seed 42."""
    shuffled = list(rows)
    random.Random(DRAW_SEED).shuffle(shuffled)
    return Examples(tuple(shuffled[:EXAMPLES]))


def draw_modules(modules: Sequence[str], seed: int) -> list[str]:
    """20 of the modules (all of them, shuffled, where there are fewer)."""
    return random.Random(seed).sample(list(modules), min(MODULES, len(modules)))


def accuracy(answers: Sequence[str], truth: Sequence[str]) -> float:
    """Percent of answers that are right, without regard to case, full stops and outer white space."""
    return 100 * fmean(float(_plain(one) == _plain(other)) for one, other in zip(answers, truth, strict=True))


def _plain(text: str) -> str:
    return text.strip().lower().replace(".", "")


def _run(
    base: Any, material: Material, task: str, seed: int, examples: Examples, test: Sequence[Example], settings: Settings
) -> Run:
    import numpy as np

    from compose.peft_files import read_adapter
    from compose.scoring.loading import make_scorer
    from compose.search import search

    modules = draw_modules(material.modules, max(seed, 1))
    used = modules if seed else modules[:1]  # the base alone is any module at weight 0
    adapters = [read_adapter(material.adapter(name), name=name) for name in used]
    mixing: dict[str, Any] = {"adapters": adapters, "method": "exact"}
    if settings.search == "lorahub":
        mixing |= {"method": "lorahub", "params": {"fold": "lorahub-compat"}}
    weights: tuple[float, ...] = (0.0,)
    if seed:
        preset = "lorahub" if settings.search == "lorahub" else None
        scorer = make_scorer(base, examples=examples, **mixing)
        weights = search(used, scorer, budget=settings.steps, seed=SEARCH_SEED, preset=preset).weights
    tested = make_scorer(base, examples=Examples(tuple(test)), max_new_tokens=settings.new_tokens, **mixing)
    answers = tested.predictions(np.array([weights]))[0]
    right = accuracy(answers, [row.output for row in test])
    return Run(task, seed, right, tuple(used) if seed else (), weights if seed else ())


def _rows(path: Path) -> list[Example]:
    """Rows of LoRAHub's files: {"context", "completion"} a line. `BadExamples` names the line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise BadExamples(f"cannot read {path}: {error.strerror}", remedy="give LoRAHub's data_bbh: --data") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append(Example(str(row["context"]), str(row["completion"])))
        except (ValueError, KeyError, TypeError) as error:
            raise BadExamples(
                f"{path.parent.name}/{path.name} line {number} has no context and completion",
                remedy="give LoRAHub's data_bbh: --data",
            ) from error
    return rows
