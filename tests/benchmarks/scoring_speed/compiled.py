"""Does torch.compile make a layer with the changes of K mixes faster than the plain calls? Prints a ratio per shape.

    python tests/benchmarks/scoring_speed/compiled.py [--device cuda] [--rounds 9]

Both sides in one process and in turn: the layer's own product and `compose.batched_model._add_delta`, as they are, and
the two compiled together. Seconds are wall-clock, medians; 5 examples, rank 16, float32 on a CPU, bfloat16 on a GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from compose.batched_model import _add_delta
from compose.mixed_factors import MixedFactors

SHAPES = {"t5_short": (512, 24), "t5_long": (512, 128), "llama": (768, 64)}
"""Features of the layer, tokens of an example."""
EXAMPLES, RANK, ADAPTERS = 5, 16, 20


def layer_with_changes(weight: Tensor, a: Tensor, b: Tensor, diagonal: Tensor | None, k: int, x: Tensor) -> Tensor:
    return _add_delta(MixedFactors(a, b, diagonal), k, x, functional.linear(x, weight))


def seconds(call: Callable[[], Tensor], device: torch.device) -> float:
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=SHAPES)
    given = parser.parse_args()
    device = torch.device(given.device)
    torch.set_num_threads(1)
    new = torch.Generator(device).manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=new, device=device, dtype=dtype)

    compiled = torch.compile(layer_with_changes, dynamic=False)
    print("| shape | population | factors | plain, ms | compiled, ms | plain / compiled |\n|---|---|---|---|---|---|")
    for name, (features, tokens) in SHAPES.items():
        for k, side_by_side in ((1, False), (16, False), (16, True)) if given.only in (None, name) else ():
            weight, x = drawn(features, features), drawn(k * EXAMPLES, tokens, features)
            total = RANK * ADAPTERS
            factors: tuple[Tensor, Tensor, Tensor | None] = (
                (drawn(total, features), drawn(features, total), drawn(k, total))
                if side_by_side
                else (drawn(k, RANK, features), drawn(k, features, RANK), None)
            )
            times: dict[str, list[float]] = {"plain": [], "compiled": []}
            with torch.inference_mode():
                ways = {"plain": layer_with_changes, "compiled": compiled}
                for number in range(given.rounds + 1):  # the first is for compiling
                    for way, function in ways.items():
                        taken = seconds(partial(function, weight, *factors, k, x), device)
                        times[way] += [taken] if number else []
            plain, fused = (1e3 * median(times[way]) for way in ways)
            kind = "exact" if side_by_side else "lorahub"
            print(f"| {name} | {k} | {kind} | {plain:.2f} | {fused:.2f} | {plain / fused:.2f}x |", flush=True)


if __name__ == "__main__":
    main()
