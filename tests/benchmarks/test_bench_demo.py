"""The demo benchmark runs, and its figures are those of the cells beside them."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("bench_demo.py")
METHODS = (
    "base", "best_single", "uniform_top5", "lorahub", "default", "default_elementwise", "cobyla", "adam", "finetune"
)  # fmt: skip
KEYS = {"exact_match", "mean_gain", "worst_task_gain", "worst_cell_gain", "wins", "losses", "evaluations", "seconds"}


def test_one_task_and_draw_run_and_the_figures_follow_from_the_cells(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    words = [sys.executable, str(SCRIPT), "--only", "star-dropl", "--draws", "2", "--tests", "10", "--json", str(out)]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    made = json.loads(out.read_text())
    accuracy = {cell["method"]: cell["accuracy"] for cell in made["cells"]}
    assert tuple(accuracy) == METHODS
    for method in METHODS:
        figures = made[f"{method}_16"]
        assert figures.keys() >= KEYS
        assert figures["exact_match"] == accuracy[method] / 100
        assert figures["mean_gain"] == accuracy[method] - accuracy["base"]
        assert f"| {method}_16 |" in ran.stdout
    assert made["default_16"]["exact_match"] > made["best_single_16"]["exact_match"]  # of this task by far
    assert made["default_16"]["evaluations"] <= 40
    assert made["default_against"]["all"]["16"].keys() == set(METHODS) - {"default"}


def test_the_stored_result_has_the_figures_of_its_cells() -> None:
    stored = json.loads((SCRIPT.parent / "results" / "bench_demo_fit.json").read_text())
    for method in METHODS:
        cells = [cell for cell in stored["cells"] if cell["method"] == method]
        assert stored[f"{method}_16"]["cells"] == len(cells) == 48
        assert abs(stored[f"{method}_16"]["mean_gain"] - statistics.mean(cell["gain"] for cell in cells)) < 1e-3


def test_an_unknown_task_is_refused() -> None:
    ran = subprocess.run([sys.executable, str(SCRIPT), "--only", "nothing"], capture_output=True, text=True)
    assert ran.returncode != 0
    assert "the demo has no task nothing; it has upper-rotl" in ran.stderr
