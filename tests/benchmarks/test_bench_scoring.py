"""The benchmark runs, writes what it promises, and what it compares is equal. How fast is for the benchmark to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

RATIOS = ("load_x", "t5_short_x", "t5_long_x", "llama_x", "llama128k_x", "floor_t5_long", "floor_llama")


def test_the_small_benchmark_runs_and_both_ways_give_the_same_losses(tmp_path: Path) -> None:
    script = Path(__file__).with_name("bench_scoring.py")
    out = tmp_path / "bench.json"
    subprocess.run(
        [sys.executable, str(script), "--small", "--json", str(out)],
        check=True,
        timeout=300,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
    )
    found = json.loads(out.read_text())
    assert all(found[key] > 0 for key in RATIOS)
    assert (found["bf16_x"] is None) == ("bf16_x" in found["reasons"])
    for shape in found["shapes"].values():
        assert shape["largest_relative_loss_difference"] < 1e-6
