"""The benchmark runs, and what it compares is equal. How fast is for the benchmark itself to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_the_small_benchmark_runs_and_both_ways_give_the_same_losses(tmp_path: Path) -> None:
    script = Path(__file__).with_name("bench_reference_loop.py")
    out = tmp_path / "bench.json"
    subprocess.run(
        [sys.executable, str(script), "--small", "--json", str(out)],
        check=True,
        timeout=300,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
    )
    found = json.loads(out.read_text())
    for shape in ("t5_short", "llama"):
        assert found[shape]["largest_relative_loss_difference"] < 1e-6
        assert found[shape]["load_x"] > 0 and found[shape]["step_x"] > 0
