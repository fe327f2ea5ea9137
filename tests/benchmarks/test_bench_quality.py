"""The benchmark runs over real tasks and writes what it promises. Whether mixing helps is for the benchmark to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KEYS = {"mean_gain", "worst_task_gain", "worst_cell_gain", "wins", "losses"}


SCRIPT = Path(__file__).with_name("bench_quality.py")


def test_stored_cells_give_the_default_against_each_other_method(tmp_path: Path) -> None:
    """By the plain way: one pair of cells after the other."""
    stored = json.loads((SCRIPT.parent / "results" / "bench_quality_fit.json").read_text())
    known = stored.pop("default_against")
    out = tmp_path / "stored.json"
    out.write_text(json.dumps(stored))
    ran = subprocess.run([sys.executable, str(SCRIPT), "--stored", str(out)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    made = json.loads(out.read_text())
    assert made == {**stored, "default_against": known}
    accuracy = {(c["method"], c["shots"], c["task"], c["draw"]): c["accuracy"] for c in stored["cells"]}
    for shots in (5, 16, 32):
        for other in ("base", "uniform_top5", "lorahub", "finetune"):
            ahead = [
                accuracy["default", *place] - theirs
                for (method, *place), theirs in accuracy.items()
                if method == other and place[0] == shots
            ]
            row = known["all"][str(shots)][other]
            assert (row["wins"], row["losses"], row["cells"]) == (
                sum(a > 0 for a in ahead),
                sum(a < 0 for a in ahead),
                25,
            )
            assert row["mean_difference"] == pytest.approx(sum(ahead) / 25, abs=2e-3)
            assert f"{row['wins']}/{row['losses']}, {row['mean_difference']:+.1f}" in ran.stdout


@pytest.mark.shared
def test_the_small_benchmark_runs_and_a_second_run_takes_the_cells_of_the_first(tmp_path: Path) -> None:
    out = tmp_path / "quality.json"

    def run() -> dict[str, object]:
        subprocess.run(
            [sys.executable, str(SCRIPT), "--small", "--json", str(out)],
            check=True,
            timeout=300,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},
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
