"""What is used of lm-evaluation-harness that it does not promise to keep: its private names, here and nowhere else.

Checked with 0.4.13; `tests/compose/scoring/test_harness_names.py` names each of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_yaml(path: Path) -> Any:
    """A task file with its includes and `!function`s. `ImportError` without the harness."""
    from lm_eval.tasks import _yaml_loader

    return _yaml_loader.load_yaml(path)


def metric_names(task: Any) -> list[str]:
    """The metrics of a task, in the order of its file."""
    return list(task._metric_fn_list)


def higher_is_better(task: Any, metric: str) -> bool:
    return bool(task._higher_is_better.get(metric, True))
