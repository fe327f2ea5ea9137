"""The benchmark runs over real tasks and writes what it promises. Whether mixing helps is for the benchmark to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KEYS = {"mean_gain", "worst_task_gain", "worst_cell_gain", "wins", "losses"}


@pytest.mark.shared
def test_the_small_benchmark_runs_and_a_second_run_takes_the_cells_of_the_first(tmp_path: Path) -> None:
    script = Path(__file__).with_name("bench_quality.py")
    out = tmp_path / "quality.json"

    def run() -> dict[str, object]:
        subprocess.run(
            [sys.executable, str(script), "--small", "--json", str(out)],
            check=True,
            timeout=300,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(script.parents[2])},
        )
        found: dict[str, object] = json.loads(out.read_text())
        return found

    found = run()
    for method in ("base", "best_single", "uniform_top5", "lorahub", "default", "cobyla", "adam", "finetune"):
        row = found[f"{method}_5"]
        assert isinstance(row, dict) and row.keys() >= KEYS
    assert found["base_5"]["mean_gain"] == 0  # type: ignore[index]
    assert found["default_5"]["evaluations"] <= 40  # type: ignore[index]
    assert sum(found["default_5"]["against"]["finetune"]) <= 1  # type: ignore[index]
    assert 0 <= found["lower_layers_largest_loss_difference"] < 1e-5  # type: ignore[operator]
    cells = found["cells"]
    assert run()["cells"] == cells  # to the second's fraction: nothing was measured again
