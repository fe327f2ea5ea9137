"""Merging and fusing, PEFT's way and ours, in one run on one machine, interleaved; prints ratios (PEFT / ours).

    python tests/benchmarks/bench_merge.py [--small] [--json FILE] [--rounds N]

- linear, cat: 20 adapters of rank 16 on all linear layers of two blocks in the shape of a 7B Llama, loaded before;
  PEFT's `add_weighted_adapter` against `merge` with `peft-linear` and `exact`.
- svd: the same on one projection of 2048 x 2048, as PEFT decomposes the dense delta.
- fused: from the files of a base in the shape of a 0.5B model (bfloat16, several shards) and one adapter to the files
  of the fused base; loading, `merge_and_unload` and `save_pretrained` against `fuse`. Each in a process of its own; the
  peak is the largest resident memory less that before the work began, over the size of the largest shard.

Times are the processor's seconds with one torch thread, so that other work on the machine counts little; the median of
the rounds, with the lowest, the highest and the median of wall seconds beside it. Results are compared before anything
is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

COUNT, RANK = 20, 16
BLOCK = {"q": (1, 1), "k": (1, 1), "v": (1, 1), "o": (1, 1), "gate": (0, 1), "up": (0, 1), "down": (1, 0)}
"""Linear layers of a Llama block; 1 stands for the hidden size, 0 for that of the MLP: (out, in)."""


def blocks(hidden: int, inner: int) -> Any:
    """Two blocks' worth of linear layers, without what lies between them."""
    import torch
    from torch import nn

    sizes = {1: hidden, 0: inner}
    torch.manual_seed(0)
    layers = {name: nn.Linear(sizes[i], sizes[o], bias=False) for name, (o, i) in BLOCK.items()}
    return nn.ModuleList([nn.ModuleDict(layers), nn.ModuleDict({n: _like(layer) for n, layer in layers.items()})])


def _like(layer: Any) -> Any:
    from torch import nn

    return nn.Linear(layer.in_features, layer.out_features, bias=False)


def loaded(model: Any, count: int, targets: list[str]) -> tuple[Any, list[Any]]:
    """The model with PEFT's adapters a0, a1 ... in it, and the same ones as ours."""
    import torch
    from peft import LoraConfig, PeftModel

    from compose.adapter import Factors, LoraAdapter

    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets)
    peft_model = PeftModel(model, config, adapter_name="a0")
    for number in range(1, count):
        peft_model.add_adapter(f"a{number}", config)
    ours: list[dict[str, Factors]] = [{} for _ in range(count)]
    torch.manual_seed(1)
    with torch.no_grad():
        for path, layer in peft_model.base_model.model.named_modules():
            if not hasattr(layer, "lora_A"):
                continue
            for number in range(count):
                a, b = layer.lora_A[f"a{number}"].weight, layer.lora_B[f"a{number}"].weight
                a.normal_(std=0.02)
                b.normal_(std=0.02)
                ours[number][path] = Factors(a.detach().clone(), b.detach().clone(), 2.0)
    return peft_model, [LoraAdapter(f"a{number}", modules) for number, modules in enumerate(ours)]


def compare_merges(model: Any, targets: list[str], combination: str, method: str, rounds: int) -> dict[str, float]:
    """Seconds of both ways, after a look that the deltas agree."""
    import torch

    from compose.merge import merge

    peft_model, adapters = loaded(model, COUNT, targets)
    names = [adapter.name for adapter in adapters]
    weights = [0.1 + 0.01 * number for number in range(COUNT)]
    options = {"svd_rank": RANK} if combination == "svd" else {}

    result: list[Any] = []

    def forget() -> None:
        """The mix of the round before goes, and is not timed."""
        result.clear()
        if "mix" in peft_model.peft_config:
            peft_model.delete_adapter("mix")

    def theirs() -> None:
        peft_model.add_weighted_adapter(names, weights, "mix", combination_type=combination, **options)

    def ours() -> None:
        result.append(merge(adapters, weights, method=method).adapter)

    theirs()
    ours()
    layers = {p: m for p, m in peft_model.base_model.model.named_modules() if hasattr(m, "lora_A")}
    for path, layer in list(layers.items())[:2]:
        a, b = layer.lora_A["mix"].weight.detach(), layer.lora_B["mix"].weight.detach()
        expected, found = layer.scaling["mix"] * b @ a, result[0].modules[path].delta()
        difference = ((found - expected).norm() / expected.norm()).item()
        if not difference < 1e-3:
            raise SystemExit(f"{method} differs from PEFT's {combination} in {path} by {difference}")
    with torch.no_grad():
        return interleaved(theirs, ours, forget, rounds)


def interleaved(
    theirs: Callable[[], None], ours: Callable[[], None], forget: Callable[[], None], rounds: int
) -> dict[str, float]:
    times: dict[str, list[tuple[float, float]]] = {"peft": [], "ours": []}
    for _ in range(rounds):
        for name, work in (("peft", theirs), ("ours", ours)):
            forget()
            began = clocks()
            work()
            times[name].append(since(began))
    return {key: value for name, found in times.items() for key, value in summary(name, found).items()}


def clocks() -> tuple[float, float]:
    """Seconds of this process's processor time, and of the wall clock."""
    return time.process_time(), time.perf_counter()


def since(began: tuple[float, float]) -> tuple[float, float]:
    processor, wall = clocks()
    return processor - began[0], wall - began[1]


def summary(name: str, found: list[tuple[float, float]]) -> dict[str, float]:
    processor, wall = zip(*found, strict=True)
    return {
        f"{name}_seconds": statistics.median(processor),
        f"{name}_lowest": min(processor),
        f"{name}_highest": max(processor),
        f"{name}_wall": statistics.median(wall),
    }


def write_base(folder: Path, *, small: bool) -> None:
    """A random Qwen2 of 0.5B parameters in bfloat16 shards, and a LoRA of rank 16 on all its linear layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    hidden, layers, inner, vocabulary = (64, 2, 128, 512) if small else (896, 24, 4864, 151936)
    config = Qwen2Config(
        hidden_size=hidden, num_hidden_layers=layers, intermediate_size=inner, vocab_size=vocabulary,
        num_attention_heads=2 if small else 14, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder / "base", max_shard_size="50KB" if small else "300MB")
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    tuned = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.01)
    tuned.save_pretrained(folder / "adapter")


def fuse_theirs(folder: Path, out: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.bfloat16)
    PeftModel.from_pretrained(model, folder / "adapter").merge_and_unload().save_pretrained(out, max_shard_size="300MB")


def fuse_ours(folder: Path, out: Path) -> None:
    from compose.fuse import fuse
    from compose.peft_files import read_adapter

    fuse(folder / "base", read_adapter(folder / "adapter"), out)


def resident() -> int:
    """The largest resident memory since the last reset, in bytes; resets."""
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def measure(way: str, folder: Path, out: Path) -> dict[str, float]:
    """One way of fusing, in this process: seconds and bytes."""
    import peft
    import transformers

    import compose.fuse
    import compose.peft_files

    del peft, transformers, compose
    work = fuse_theirs if way == "peft" else fuse_ours
    resident()
    before = resident()
    began = clocks()
    work(folder, out)
    processor, wall = since(began)
    return {"seconds": processor, "wall": wall, "peak": resident() - before}


def compare_fusing(rounds: int, *, small: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="bench-merge-") as scratch:
        folder = Path(scratch)
        write_base(folder, small=small)
        shards = [file.stat().st_size for file in (folder / "base").glob("*.safetensors")]
        found: dict[str, list[dict[str, float]]] = {"peft": [], "ours": []}
        for number in range(rounds):
            for way in ("peft", "ours"):
                out = folder / f"{way}-{number}"
                command = [sys.executable, __file__, "--measure", way, str(folder), str(out)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
        check_fused(folder)
    times = {way: [(one["seconds"], one["wall"]) for one in rows] for way, rows in found.items()}
    peaks = {way: max(one["peak"] for one in rows) for way, rows in found.items()}
    return {
        **summary("peft", times["peft"]),
        **summary("ours", times["ours"]),
        "peft_peak_bytes": peaks["peft"],
        "ours_peak_bytes": peaks["ours"],
        "largest_shard_bytes": max(shards),
        "shards": len(shards),
    }


def check_fused(folder: Path) -> None:
    """Both wrote the same weights, but for one step of bfloat16 (PEFT rounds the delta before it adds)."""
    import torch
    from safetensors.torch import load_file

    def weights(out: str) -> dict[str, Any]:
        return {k: v for file in (folder / out).glob("*.safetensors") for k, v in load_file(file).items()}

    one, two = weights("peft-0"), weights("ours-0")
    for name in two:
        if not torch.allclose(one[name].float(), two[name].float(), rtol=2e-2, atol=1e-3):
            raise SystemExit(f"{name} differs between the two fused bases")


def run(rounds: int, *, small: bool) -> dict[str, Any]:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    hidden, inner, side = (64, 128, 64) if small else (4096, 11008, 2048)
    found: dict[str, dict[str, float]] = {}
    targets = list(BLOCK)
    found["linear"] = compare_merges(blocks(hidden, inner), targets, "linear", "peft-linear", rounds)
    found["cat"] = compare_merges(blocks(hidden, inner), targets, "cat", "exact", rounds)
    projection = nn.ModuleDict({"q": nn.Linear(side, side, bias=False)})
    found["svd"] = compare_merges(projection, ["q"], "svd", "svd", 1 if not small else rounds)
    found["fused"] = compare_fusing(rounds, small=small)
    ratios = {f"{name}_x": row["peft_seconds"] / row["ours_seconds"] for name, row in found.items()}
    peak = found["fused"]["ours_peak_bytes"] / found["fused"]["largest_shard_bytes"]
    about = {**machine(), "torch": torch.__version__}
    return {**ratios, "fused_peak_over_shard": peak, "details": found, "small": small, "machine": about}


def machine() -> dict[str, Any]:
    """Where and of what: processor, cores, load, commit, versions."""
    names = [
        line.split(": ")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "commit": git.stdout.strip() or None,
        "python": platform.python_version(),
        "peft": version("peft"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="tiny shapes, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=3, metavar=("WAY", "FOLDER", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.measure:
        way, folder, out = options.measure
        print(json.dumps(measure(way, Path(folder), Path(out))))
        return
    found = run(options.rounds, small=options.small)
    for name in ("linear_x", "cat_x", "svd_x", "fused_x", "fused_peak_over_shard"):
        print(f"{name:24s} {found[name]:.2f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
