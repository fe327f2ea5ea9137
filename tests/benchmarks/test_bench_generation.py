"""The benchmark runs, and all ways give the same texts before they are timed. How fast is for itself to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_the_small_benchmark_runs_and_all_ways_give_the_same_texts(tmp_path: Path) -> None:
    script, out = Path(__file__).with_name("bench_generation.py"), tmp_path / "bench.json"
    subprocess.run(
        [sys.executable, str(script), "--small", "--json", str(out)],
        check=True,
        timeout=300,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
    )
    found = json.loads(out.read_text())["cases"]
    assert set(found) == {"llama_instructed", "llama_plain", "t5_decoder", "t5_both"}
    for case in found.values():
        assert case["share_of_equal_texts"] == 1 and case["different_texts"] > 4
        assert all(case[f"{kind}_{count}"] > 0 for kind in ("x", "formerly_x") for count in (1, 8))
