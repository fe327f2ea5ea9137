"""Scoring a population against LoRAHub's loop, in one process, interleaved; prints ratios and the share of the floor.

    python tests/benchmarks/bench_scoring.py [--device cuda] [--json FILE] [--rounds N] [--only SHAPE]
    python tests/benchmarks/bench_scoring.py --small [--gpu-figures]    (does it run: toy shapes, here)

The reference loop is written down in `scoring_speed/reference.py`, the floor in `scoring_speed/floor.py`, the models in
`scoring_speed/shapes.py`: random weights in published shapes, 20 adapters of rank 16 on q and v, 5 examples. Ours is
`scorer.example_losses` of 1 to 64 weight rows, mixed as that loop mixes (lorahub with the fold lorahub-compat), which
is not what `mixhub search` does by default: its `exact`, whose products are wider, is timed beside it (`exact_...`).
Before anything is timed the losses of both are compared: in float64 with weights of up to 0.3, as a random model at
full weights is chaotic (for causal models up to 1e-6, as transformers rounds their logits to float32 before its own
loss).

On a CPU times are process CPU seconds with one torch thread; on a GPU wall-clock seconds until the device is idle.
Ratios (`..._x`) are the reference's median over ours at a population of 16 (`exact_1_x`: of one candidate); `floor_...`
is our median over the floor that was measured between the same rounds. On a GPU there are larger shapes too, for which
a whole search of 40 evaluations, loading included, is timed against the reference's (`search_x`), and `..._rate_share`
is the FLOP of a candidate over our time in bfloat16, as a share of what one large product reaches. `--json` holds all
by name, on a GPU with `gpu_` before; null with a reason in `reasons` where this machine cannot say.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import peft
import torch
from scoring_speed.floor import floor_seconds, matmul_rate, work_of
from scoring_speed.reference import ReferenceLoop
from scoring_speed.shapes import (
    ADAPTERS,
    CPU_SHAPES,
    EXAMPLES,
    GPU_SHAPES,
    RANK,
    SMALL_GPU_SHAPES,
    SMALL_SHAPES,
    Shape,
    new_base,
    random_examples,
    write_adapters,
)

from compose.device import has_bfloat16
from compose.peft_files import read_adapter
from compose.scoring import LoadedBase, Scorer, make_scorer
from compose.search import search
from compose.stack import stack_adapters
from hub.actions.search_plan import DEFAULT_METHOD

COMPAT = {"fold": "lorahub-compat"}
"""Of the method lorahub: the mathematics of the reference, so that what is compared is equal."""
COMPARED = "lorahub, fold lorahub-compat"
POPULATIONS = (1, 4, 16, 64)
MAIN = 16
"""The population that the ratios are of."""
DEFAULT_POPULATIONS = (1, MAIN)
"""Those at which the search's default method is timed."""
FEW = 3
"""Rounds after which the largest population is measured too; it takes as long as all the others."""
BUDGET = 40
"""Evaluations of a whole search."""
Times = dict[str, list[float]]


class Bench:
    """One shape on one device: both ways, ready to be timed in turn."""

    def __init__(self, shape: Shape, folder: Path, device: str) -> None:
        self.shape, self.device = shape, device
        self.random = np.random.default_rng(2)
        self.base, self.twin = (new_base(shape, torch.float32, device) for _ in range(2))
        self.examples = random_examples(shape, self.base.model.config.vocab_size)
        self.folders = write_adapters(shape, new_base(shape, torch.float32).model, folder)
        self.scorer = self.scorer_on(self.base)
        self.reference = ReferenceLoop(self.twin, self.folders, self.examples)

    def scorer_on(self, base: LoadedBase) -> Scorer:
        return self._scorer(base, "lorahub", COMPAT)

    def default_scorer(self) -> Scorer:
        """What `mixhub search` scores with unless it is told otherwise."""
        return self._scorer(self.base, DEFAULT_METHOD, {})

    def _scorer(self, base: LoadedBase, method: str, params: dict[str, str]) -> Scorer:
        adapters = [read_adapter(one, name=one.name) for one in self.folders]
        return make_scorer(base, examples=self.examples, adapters=adapters, method=method, params=params)

    def load(self) -> object:
        """Folders to factors that can be mixed, as `scorer_on` does it."""
        adapters = [read_adapter(one, name=one.name) for one in self.folders]
        return stack_adapters(adapters, params=COMPAT, device=self.device)

    def rows(self, count: int) -> np.ndarray:
        return self.random.uniform(-0.3, 0.3, (count, ADAPTERS))

    def seconds(self, work: Callable[[], object]) -> float:
        if self.device == "cpu":
            start = time.process_time()
            work()
            return time.process_time() - start
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    def largest_difference(self) -> float:
        """Between the two ways' losses, relative, in float64 over four candidates."""
        scorer = self.scorer_on(new_base(self.shape, torch.float64, self.device))
        twin = new_base(self.shape, torch.float64, self.device)
        reference = ReferenceLoop(twin, self.folders, self.examples)
        weights = np.random.default_rng(1).uniform(-0.3, 0.3, (4, ADAPTERS))
        for _ in range(0 if self.device == "cpu" else 2):
            scorer.example_losses(weights)  # on a GPU the third time is the first that is nothing but a replay
        ours = (scorer.example_losses(weights) * scorer.token_counts).sum(1) / scorer.token_counts.sum()
        theirs = np.array([reference.mean_loss(row) for row in weights.tolist()])
        return float(np.abs(ours / theirs - 1).max())

    def search(self) -> object:
        """A whole search of ours, from the adapters' folders on: by the reference's method, all else by default."""
        scorer = self.scorer_on(self.base)
        return search(scorer.adapter_names, scorer, budget=BUDGET, seed=0)

    def reference_search(self, fresh: LoadedBase) -> object:
        return ReferenceLoop(fresh, self.folders, self.examples).search(BUDGET)

    def work(self) -> Any:
        tokenizer = self.base.tokenizer
        inputs = [list(tokenizer(e.input).input_ids) for e in self.examples]
        labels = [[*tokenizer(e.output).input_ids, 1] for e in self.examples]
        return work_of(new_base(self.shape, torch.float32, self.device), inputs, labels, self.shape.targets)


def measure(shape: Shape, *, rounds: int, device: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(shape, Path(folder), device)
        difference = bench.largest_difference()
        work = bench.work()
        low = bench.scorer_on(new_base(shape, torch.bfloat16, device)) if has_bfloat16(device) else None
        exact = bench.default_scorer()
        times: Times = {}

        def timed(name: str, call: Callable[[], object], share: int = 1) -> None:
            times.setdefault(name, []).append(bench.seconds(call) / share)

        def step(scorer: Scorer, count: int) -> Callable[[], object]:
            rows = bench.rows(count)
            return lambda: scorer.example_losses(rows)

        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        for count in (1, MAIN) if device == "cpu" else (*POPULATIONS, *POPULATIONS, *POPULATIONS):
            step(bench.scorer, count)()
            if count in DEFAULT_POPULATIONS:
                step(exact, count)()
            if low is not None and count == MAIN:
                step(low, count)()
        bench.reference.mean_loss(bench.rows(1)[0].tolist())
        for turn in range(rounds):
            timed("load", bench.load)
            fresh = new_base(shape, torch.float32, device)
            timed("load_reference", lambda fresh=fresh: ReferenceLoop(fresh, bench.folders, bench.examples))
            for count in POPULATIONS:
                row = bench.rows(1)[0].tolist()
                timed("reference", lambda row=row: bench.reference.mean_loss(row))
                if count <= MAIN or turn >= FEW or device != "cpu":
                    timed(f"population_{count}", step(bench.scorer, count), count)
                if count in DEFAULT_POPULATIONS:
                    timed(f"exact_{count}", step(exact, count), count)
            if shape.search and turn < FEW:
                timed("search", bench.search)
                fresh = new_base(shape, torch.float32, device)
                timed("search_reference", lambda fresh=fresh: bench.reference_search(fresh))
            if low is not None:
                timed("bfloat16", step(low, MAIN), MAIN)
                rate = matmul_rate(
                    bench.base.model.config.hidden_size, dtype=torch.bfloat16, device=device, seconds=bench.seconds
                )
                times.setdefault("matmul_bfloat16_rate", []).append(rate)
            for name, dtype in (("floor", torch.float32), *([("floor_bfloat16", torch.bfloat16)] if low else [])):
                floor, rate = floor_seconds(
                    work, candidates=MAIN // 2, dtype=dtype, device=device, seconds=bench.seconds
                )
                times.setdefault(name, []).append(floor)
                times.setdefault(f"{name}_rate", []).append(rate)
        ranking = None if low is None else rank_correlation(bench, low)
    middle = {key: median(values) for key, values in times.items()}
    return {
        "parameters": sum(p.numel() for p in bench.base.model.parameters()),
        "largest_relative_loss_difference": difference,
        "bfloat16_rank_correlation": ranking,
        "seconds": {k: {"median": middle[k], "lowest": min(v), "highest": max(v)} for k, v in times.items()},
        "method": COMPARED,
        "gflop_per_candidate": work.flop / 1e9,
        "load_x": middle["load_reference"] / middle["load"],
        "x": middle["reference"] / middle[f"population_{MAIN}"],
        "x_by_population": {
            str(p): middle["reference"] / middle[f"population_{p}"] for p in POPULATIONS if f"population_{p}" in middle
        },
        **{f"exact_{p}": middle[f"exact_{p}"] for p in DEFAULT_POPULATIONS},
        **{f"exact_{p}_x": middle["reference"] / middle[f"exact_{p}"] for p in DEFAULT_POPULATIONS},
        "bf16_x": None if low is None else middle["reference"] / middle["bfloat16"],
        "bf16_rate_share": None if low is None else work.flop / middle["bfloat16"] / middle["matmul_bfloat16_rate"],
        "search_x": middle["search_reference"] / middle["search"] if shape.search else None,
        "floor": middle[f"population_{MAIN}"] / middle["floor"],
        "graphs": graphs_of(bench.scorer),
        "peak_memory_bytes": peak_memory(device),
    }


def graphs_of(scorer: Any) -> str:
    """Whether CUDA graphs were replayed."""
    graphs = scorer._population.graphs
    return "none" if graphs is None else "failed" if graphs.failed else f"{len(graphs)} shapes"


def rank_correlation(bench: Bench, low: Scorer) -> float:
    """Spearman's, between bfloat16 and float32 losses of 32 candidates."""
    from compose.finalists import spearman

    rows = bench.rows(32)
    return spearman(low.example_losses(rows).mean(1), bench.scorer.example_losses(rows).mean(1))


def peak_memory(device: str) -> int:
    """Of the device, or of this process so far."""
    if device != "cpu":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def machine(device: str) -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": model,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": None if device == "cpu" else torch.cuda.get_device_name(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "commit": git.stdout.strip() or None,
        "torch": torch.__version__,
        "peft": peft.__version__,
        "python": platform.python_version(),
    }


def headline(found: dict[str, Any], *, gpu: bool) -> dict[str, float | None]:
    """The figures that the aims are about; null for what was not measured."""

    def of(shape: str, key: str) -> float | None:
        value: float | None = found.get(shape, {}).get(key)
        return value

    figures = {
        "load_x": of("t5_short", "load_x"),
        "t5_short_x": of("t5_short", "x"),
        "t5_long_x": of("t5_long", "x"),
        "llama_x": of("llama", "x"),
        "llama128k_x": of("llama128k", "x"),
        "bf16_x": of("t5_long", "bf16_x"),
        "floor_t5_long": of("t5_long", "floor"),
        "floor_llama": of("llama", "floor"),
    }
    if not gpu:
        return figures
    larger = {f"{key}_x": of(key, "x") for key in ("t5_large_short", "t5_large_long", "llama1b")}
    larger |= {f"{key}_bf16_x": of(key, "bf16_x") for key in ("t5_large_short", "t5_large_long", "llama1b")}
    larger |= {
        "t5_large_long_rate_share": of("t5_large_long", "bf16_rate_share"),
        "search_short_x": of("t5_large_short", "search_x"),
        "search_x": of("t5_large_long", "search_x"),
    }
    return {f"gpu_{key}": value for key, value in {**figures, **larger}.items()}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="toy shapes: does it run, not how fast is it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--gpu-figures", action="store_true", help="with --small: those of a GPU's run, on any device")
    parser.add_argument("--only", help="one shape")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="peft")
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
    warnings.filterwarnings("ignore", message="COBYLA: Invalid RHOEND")
    gpu = options.device != "cpu" or options.gpu_figures
    small = SMALL_GPU_SHAPES if gpu else SMALL_SHAPES
    shapes = small if options.small else CPU_SHAPES if options.device == "cpu" else GPU_SHAPES
    found: dict[str, Any] = {}
    result: dict[str, Any] = {}
    where = machine(options.device)
    print(where, flush=True)
    reasons = {}
    if not has_bfloat16(options.device):
        reasons["bf16_x"] = f"{options.device} has no bfloat16 arithmetic ({torch.backends.cpu.get_cpu_capability()})"
    for shape in shapes:
        if options.only not in (None, shape.key):
            continue
        found[shape.key] = measure(shape, rounds=1 if options.small else options.rounds, device=options.device)
        print_shape(shape.key, found[shape.key])
        result = {**headline(found, gpu=gpu), "reasons": reasons, "machine": where, "small": options.small}
        result["shapes"] = found
        if options.json:  # after every shape: a long run that is cut short has something to show
            options.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


def print_shape(name: str, found: dict[str, Any]) -> None:
    print(
        f"{name}: {found['parameters'] / 1e6:.1f}M parameters, {ADAPTERS} adapters of rank {RANK}, {EXAMPLES} examples"
    )
    print(f"  losses differ by at most {found['largest_relative_loss_difference']:.1e} (relative, float64)")
    ratios = ", ".join(f"{ratio:.2f}x at {count}" for count, ratio in found["x_by_population"].items())
    print(f"  {found['method']}: loading {found['load_x']:.1f}x; per candidate {ratios}; ", end="")
    print(f"{found['floor']:.2f} times the floor")
    ratios = ", ".join(f"{found[f'exact_{count}_x']:.2f}x at {count}" for count in DEFAULT_POPULATIONS)
    print(f"  {DEFAULT_METHOD} (the default of mixhub search): per candidate {ratios}")
    for what, times in found["seconds"].items():
        unit = (1e-9, "GFLOP/s") if what.endswith("rate") else (1e3, "ms")
        low, mid, high = (times[key] * unit[0] for key in ("lowest", "median", "highest"))
        print(f"  {what}: {mid:.1f} {unit[1]} ({low:.1f} to {high:.1f})")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
