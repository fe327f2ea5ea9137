"""The demo's held-out tasks, with strings of their own for every draw.

Draw d takes its few-shot strings from the split `few` and its test strings from the split `test`
(`demo_training/operations.py`), by seeds of its own: neither the shipped files nor another draw is used.
"""

from __future__ import annotations

from typing import Any

from demo_training.operations import Split, distinct_rows
from quality.tasks import Task

from compose.examples import Example, Examples
from hub.demo.run import index

SHOTS = 16
FEW_SEED, TEST_SEED = 1000, 5000
"""Added to a draw's number."""


class DemoTask(Task):
    """A task of one draw, whose pool is that draw."""

    def draw(self, number: int, shots: int) -> Examples:  # noqa: ARG002 (a draw has a pool of its own)
        return Examples(self.pool.rows[:shots])


def demo_tasks(draw: int, *, test_rows: int, only: str | None = None) -> list[Task]:
    """All tasks of a draw, or only one of them."""
    tasks: list[Task] = [
        DemoTask(
            described["name"],
            None,
            _rows(described, count=SHOTS, split="few", seed=FEW_SEED + draw),
            _rows(described, count=test_rows, split="test", seed=TEST_SEED + draw),
        )
        for described in index()["tasks"]
        if only in (None, described["name"])
    ]
    if not tasks:
        raise SystemExit(f"the demo has no task {only}; it has {', '.join(t['name'] for t in index()['tasks'])}")
    return tasks


def _rows(described: dict[str, Any], *, count: int, split: Split, seed: int) -> Examples:
    rows = distinct_rows(described["operations"], described["instruction"], count=count, split=split, seed=seed)
    return Examples(tuple(Example(*row) for row in rows))
