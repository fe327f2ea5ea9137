"""The benchmark runs, and compares what both ways give before it times them. How fast is for itself to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_the_small_benchmark_runs_and_writes_its_figures(tmp_path: Path) -> None:
    script, out = Path(__file__).with_name("bench_merge.py"), tmp_path / "bench.json"
    subprocess.run(
        [sys.executable, str(script), "--small", "--rounds", "1", "--json", str(out)],
        check=True,
        timeout=300,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
    )
    found = json.loads(out.read_text())
    assert all(found[name] > 0 for name in ("linear_x", "cat_x", "svd_x", "fused_x", "fused_peak_over_shard"))
