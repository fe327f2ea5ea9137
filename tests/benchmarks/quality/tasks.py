"""Held-out tasks of a folder in the layout of `shared/data/tasks`, and their few-shot draws.

A task is held out when no adapter bears its name. Few-shot examples are drawn from the first 200 train rows: draw d is
the first k of a permutation by numpy's generator seeded with d, so that the 5 examples are among the 16 and those among
the 32; plain random, not balanced by label. Test rows are the first 400 of the test file, topped up with train rows
from 200 on; nothing is ever chosen by them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compose.examples import Examples, read_examples

POOL_ROWS = 200
TEST_ROWS = 400


@dataclass(frozen=True)
class Task:
    """`labels`: label -> the text that stands for it, None where text is generated; `pool` is what few-shot examples
    are drawn from."""

    name: str
    labels: dict[str, str] | None
    pool: Examples
    test: Examples

    def draw(self, number: int, shots: int) -> Examples:
        if shots > len(self.pool):
            raise SystemExit(f"{self.name}: {shots} examples are wanted, it has {len(self.pool)} to draw from")
        chosen = np.random.default_rng(number).permutation(len(self.pool))[:shots]
        return Examples(tuple(self.pool.rows[i] for i in chosen))

    @property
    def digest(self) -> str:
        return hashlib.sha256((self.pool.digest + self.test.digest).encode()).hexdigest()[:12]


def held_out_tasks(folder: Path, adapter_names: set[str], *, test_rows: int = TEST_ROWS) -> list[Task]:
    """The tasks of `folder/manifest.json` that have label texts and no adapter of their own name."""
    tasks = []
    for row in json.loads((folder / "manifest.json").read_text(encoding="utf-8")):
        name, labels = row["task"], row.get("label_descriptions")
        if not labels or name in adapter_names:
            continue
        train, test = (
            read_examples(folder / row["family"] / f"{name}.{part}.jsonl").rows for part in ("train", "test")
        )
        rows = (*test[:TEST_ROWS], *train[POOL_ROWS:])[:test_rows]
        tasks.append(Task(name, labels, Examples(train[:POOL_ROWS]), Examples(rows)))
    if not tasks:
        raise SystemExit(f"{folder} has no task with label texts that is not an adapter's own")
    return tasks
