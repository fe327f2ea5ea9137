"""The demo benchmark runs, and its figures are those of the cells beside them."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("bench_demo.py")


def test_one_task_and_draw_run_and_the_summary_follows_from_the_cells(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    words = [sys.executable, str(SCRIPT), "--only", "star-dropl", "--draws", "2", "--tests", "10", "--json", str(out)]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    made = json.loads(out.read_text())
    for method, figures in made["methods"].items():
        cells = [cell["exact_match"] for cell in made["cells"] if cell["method"] == method]
        assert figures["exact_match"] == statistics.mean(cells)
        assert f"| {method} |" in ran.stdout
    assert made["methods"]["default"]["wins"] <= 1
