"""The benchmark runs, writes what it promises, and what it compares is equal. How fast is for the benchmark to say."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RATIOS = ("load_x", "t5_short_x", "t5_long_x", "llama_x", "llama128k_x", "floor_t5_long", "floor_llama")
LARGER = ("t5_large_short_x", "t5_large_long_x", "llama1b_x", "search_short_x", "search_x")
COARSE = ("bf16_x", "t5_large_short_bf16_x", "t5_large_long_bf16_x", "llama1b_bf16_x", "t5_large_long_rate_share")


def test_the_small_benchmark_runs_with_all_of_a_gpu_s_figures_and_both_ways_give_the_same_losses(
    tmp_path: Path,
) -> None:
    script = Path(__file__).with_name("bench_scoring.py")
    out = tmp_path / "bench.json"
    subprocess.run(
        [sys.executable, str(script), "--small", "--gpu-figures", "--json", str(out)],
        check=True,
        timeout=300,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
    )
    found = json.loads(out.read_text())
    assert all(found[f"gpu_{key}"] > 0 for key in RATIOS + LARGER)
    coarse = [found[f"gpu_{key}"] for key in COARSE]
    assert all(coarse) if "bf16_x" not in found["reasons"] else not any(coarse)
    assert {key for key in found if key.startswith("gpu_")} == {f"gpu_{key}" for key in RATIOS + LARGER + COARSE}
    for shape in found["shapes"].values():
        assert shape["exact_1"] > 0 and shape["exact_16"] > 0, "what a search does by default is timed too"
        assert shape["exact_16_x"] == shape["seconds"]["reference"]["median"] / shape["exact_16"]
        assert shape["largest_relative_loss_difference"] < 1e-6 and shape["graphs"] == "none"


def test_the_figures_of_a_cpu_have_the_names_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    headline = importlib.import_module("bench_scoring").headline
    measured = {"load_x": 1.0, "x": 2.0, "bf16_x": 3.0, "floor": 4.0}
    found = headline(dict.fromkeys(("t5_short", "t5_long", "llama", "llama128k"), measured), gpu=False)
    assert set(found) == {*RATIOS, "bf16_x"} and all(found.values())
