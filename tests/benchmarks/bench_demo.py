"""Does the search help on the demo's held-out tasks? Fresh few-shot draws and fresh test strings, several methods.

    python tests/benchmarks/bench_demo.py [--draws 2,3,4] [--tests 100] [--budget 40] [--only TASK] [--json FILE]

Draw d takes 16 few-shot strings of the split `few` and 100 of the split `test` (`hub/demo/operations.py`), by seeds of
its own: neither the shipped files nor another draw is used. The default was chosen on draws 0 and 1. Exact match is of
greedy outputs; loss is the mean token loss on the test strings; one torch thread, CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from compose.examples import Example, Examples
from compose.peft_files import read_adapter
from compose.scoring import load_base, make_scorer
from compose.search import search
from hub.demo.operations import distinct_rows
from hub.demo.run import CONTENT, index

SHOTS = 16
METHODS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    # name: parameters of the merge, options of the search
    "lorahub": ({"method": "lorahub", "fold": "lorahub-compat"}, {"preset": "lorahub"}),
    "default": ({"method": "exact"}, {}),
    "default_elementwise": ({"method": "lorahub"}, {}),
    "cobyla": ({"method": "exact"}, {"optimizer": "Cobyla"}),
}


def examples(task: dict[str, Any], *, count: int, split: str, seed: int) -> Examples:
    rows = distinct_rows(task["operations"], task["instruction"], count=count, split=split, seed=seed)  # type: ignore[arg-type]
    return Examples(tuple(Example(*row) for row in rows))


def measure(
    task: dict[str, Any], draw: int, *, base: Any, adapters: list[Any], budget: int, tests: int, methods: list[str]
) -> list[Any]:
    """One row per method, and one for the best single adapter by few-shot loss."""
    few = examples(task, count=SHOTS, split="few", seed=1000 + draw)
    test = examples(task, count=tests, split="test", seed=5000 + draw)
    names = [adapter.name for adapter in adapters]
    rows = []
    for name in methods:
        merge, options = METHODS[name]
        params = {key: value for key, value in merge.items() if key != "method"}
        began = time.process_time()
        scorer = make_scorer(base, examples=few, adapters=adapters, method=merge["method"], params=params)
        found = search(names, scorer, budget=budget, seed=draw, **options)
        seconds = time.process_time() - began
        chosen = {name: found.weights}
        if name == "default" and found.baselines:
            chosen["best_single"] = found.baselines.best_single.weights
        judge = make_scorer(base, examples=test, adapters=adapters, method=merge["method"], params=params)
        weights = np.array(list(chosen.values()))
        losses, texts = judge.example_losses(weights).mean(axis=1), judge.predictions(weights)
        for method, loss, outputs in zip(chosen, losses, texts, strict=True):
            right = sum(o == e.output for o, e in zip(outputs, test, strict=True)) / len(test)
            rows.append(
                {"task": task["name"], "draw": draw, "method": method, "exact_match": right, "loss": float(loss),
                 "seconds": seconds}
            )  # fmt: skip
    return rows


def summary(rows: list[Any]) -> dict[str, Any]:
    """Per method: means over cells, the spread over draws, and wins and losses against the best single adapter."""
    single = {(r["task"], r["draw"]): r["exact_match"] for r in rows if r["method"] == "best_single"}
    made = {}
    for method in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == method]
        by_draw = [
            statistics.mean(r["exact_match"] for r in own if r["draw"] == draw)
            for draw in sorted({r["draw"] for r in own})
        ]
        made[method] = {
            "exact_match": statistics.mean(r["exact_match"] for r in own),
            "lowest_draw": min(by_draw),
            "highest_draw": max(by_draw),
            "loss": statistics.mean(r["loss"] for r in own),
            "wins": sum(r["exact_match"] > single[r["task"], r["draw"]] for r in own),
            "losses": sum(r["exact_match"] < single[r["task"], r["draw"]] for r in own),
            "seconds": statistics.median(r["seconds"] for r in own),
        }
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", default="2,3,4")
    parser.add_argument("--tests", type=int, default=100)
    parser.add_argument("--budget", type=int, default=40)
    parser.add_argument("--only", help="one task")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if unknown := set(given.methods.split(",")) - METHODS.keys():
        parser.error(f"there is no method {', '.join(sorted(unknown))}; choose from {', '.join(METHODS)}")
    adapters = [read_adapter(CONTENT / "adapters" / one["name"], name=one["name"]) for one in index()["adapters"]]
    base = load_base(CONTENT / "base")
    rows = []
    for task in index()["tasks"]:
        if given.only in (None, task["name"]):
            for draw in map(int, given.draws.split(",")):
                rows += measure(
                    task,
                    draw,
                    base=base,
                    adapters=adapters,
                    budget=given.budget,
                    tests=given.tests,
                    methods=given.methods.split(","),
                )
    table = summary(rows)
    print("| method | exact match | over draws | loss | wins | losses | CPU s |\n|---|---:|---:|---:|---:|---:|---:|")
    for method, r in table.items():
        spread = f"{r['lowest_draw']:.3f} to {r['highest_draw']:.3f}"
        numbers = f"{r['loss']:.2f} | {r['wins']} | {r['losses']} | {r['seconds']:.1f}"
        print(f"| {method} | {r['exact_match']:.3f} | {spread} | {numbers} |")
    if given.json:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        about = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "commit": commit}
        about |= {name: str(value) for name, value in vars(given).items() if name != "json"}
        document = {"about": about, "methods": table, "cells": rows}
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
