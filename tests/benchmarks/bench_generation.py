"""Greedy answers of a population, with and without reuse, in one process, interleaved.

    python tests/benchmarks/bench_generation.py [--json FILE] [--rounds N] [--only CASE] [--small]

Models and adapters are those of `bench_scoring.py` (random weights in published shapes, 20 adapters of rank 16, 5
examples), on a CPU. Three ways (`scoring_speed/former_answers.py` holds the first two): one mix at a time in PEFT, all
examples as one padded batch; our former way, K mixes on prompts computed whole and encoders run for every mix; and
`scorer.predictions`. Random models hardly ever end by themselves: answers have all their tokens. The texts are compared
before anything is timed. Times are process CPU seconds per candidate with one torch thread; what is kept for a whole
search is warm, as from its second step on; `first` is the first call, with what is tried and recorded in it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from bench_scoring import COMPAT, machine
from scoring_speed.former_answers import former_answers, reference_answers
from scoring_speed.reference import ReferenceLoop
from scoring_speed.shapes import ADAPTERS, Shape, llama, new_base, random_examples, t5, write_adapters

from compose.examples import Example, Examples
from compose.peft_files import read_adapter
from compose.scoring import make_scorer

POPULATIONS = (1, 8)
WIDEST = 0.3
"""Of the weights: a random model at full weights is chaotic."""


@dataclass(frozen=True)
class Case:
    """A shape, tokens of an instruction before every input, and tokens of an answer."""

    shape: Shape
    instruction: int = 0
    steps: int = 10


def _in_decoder(layers: int) -> tuple[str, ...]:
    places = ("layer.0.SelfAttention", "layer.1.EncDecAttention")
    return tuple(f"decoder.block.{i}.{place}.{part}" for i in range(layers) for place in places for part in "qv")


def untied(model: Any) -> Any:
    """With an output layer of its own: behind random weights a tied one repeats the token it is given."""
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    return model


def cases(*, small: bool) -> tuple[Case, ...]:
    width, layers, vocabulary = (128, 2, 1000) if small else (512, 8, 32128)
    deep = layers if small else 12

    def seq2seq(key: str, targets: tuple[str, ...]) -> Case:
        return Case(Shape(key, lambda: untied(t5(width, layers, vocabulary)), "seq2seq", targets, "SEQ_2_SEQ_LM", 128))

    causal = Shape(
        "llama_plain", lambda: llama(width, deep, vocabulary), "causal", ("q_proj", "v_proj"), "CAUSAL_LM", 64
    )
    return (
        Case(replace(causal, key="llama_instructed", input_tokens=24), instruction=64 if small else 256),
        Case(causal),
        seq2seq("t5_decoder", _in_decoder(layers)),
        seq2seq("t5_both", ("q", "v")),
    )


class Bench:
    """One case: the three ways, on models of their own with the same weights."""

    def __init__(self, case: Case, folder: Path, dtype: torch.dtype) -> None:
        self.case = case
        self.base, self.twin = (new_base(case.shape, dtype) for _ in range(2))
        examples = instructed(random_examples(case.shape, self.base.model.config.vocab_size), case.instruction)
        folders = write_adapters(case.shape, new_base(case.shape, torch.float32).model, folder)
        adapters = [read_adapter(one, name=one.name) for one in folders]
        self.scorer = make_scorer(
            self.base, examples=examples, adapters=adapters, params=COMPAT, max_new_tokens=case.steps
        )
        self.reference = ReferenceLoop(self.twin, folders, examples)
        self.prompts = [list(self.base.tokenizer(example.input).input_ids) for example in examples]

    def one_at_a_time(self, weights: np.ndarray) -> list[list[str]]:
        return [
            reference_answers(self.reference, self.twin, self.prompts, row, steps=self.case.steps)
            for row in weights.tolist()
        ]

    def formerly(self, weights: np.ndarray) -> list[list[str]]:
        return former_answers(self.scorer, self.base, self.prompts, weights, steps=self.case.steps)

    def now(self, weights: np.ndarray) -> list[list[str]]:
        return self.scorer.predictions(weights)


def instructed(examples: Examples, tokens: int) -> Examples:
    instruction = "".join(f"{word} " for word in np.random.default_rng(3).integers(2, 1000, tokens))
    return Examples(tuple(Example(instruction + e.input, e.output) for e in examples))


def compared_texts(case: Case, folder: Path) -> dict[str, float]:
    """The share of texts that are the same in all three ways, in float64 over four candidates; and how many differ from
    each other."""
    bench = Bench(case, folder, torch.float64)
    weights = np.random.default_rng(1).uniform(-WIDEST, WIDEST, (4, ADAPTERS))
    now = bench.now(weights)
    ways = zip(bench.one_at_a_time(weights), bench.formerly(weights), now, strict=True)
    same = [len(set(texts)) == 1 for rows in ways for texts in zip(*rows, strict=True)]
    return {"share_of_equal_texts": sum(same) / len(same), "different_texts": len({t for row in now for t in row})}


def measure(case: Case, *, rounds: int) -> dict[str, Any]:
    random = np.random.default_rng(2)
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[np.ndarray], object], count: int) -> None:
        weights = random.uniform(-WIDEST, WIDEST, (count, ADAPTERS))
        start = time.process_time()
        work(weights)
        times.setdefault(name, []).append((time.process_time() - start) / count)

    with tempfile.TemporaryDirectory() as folder:
        texts = compared_texts(case, Path(folder))
        bench = Bench(case, Path(folder), torch.float32)
        bench.one_at_a_time(np.zeros((1, ADAPTERS)))
        for count in POPULATIONS:
            timed(f"first_{count}", bench.now, count)
            bench.formerly(np.zeros((count, ADAPTERS)))
        for _ in range(rounds):
            for count in POPULATIONS:
                timed("one_at_a_time", bench.one_at_a_time, 1)
                timed(f"formerly_{count}", bench.formerly, count)
                timed(f"now_{count}", bench.now, count)
                timed(f"losses_{count}", bench.scorer.example_losses, count)
    middle = {key: median(values) for key, values in times.items()}
    return {
        "parameters": sum(p.numel() for p in bench.base.model.parameters()),
        "prompt_tokens": [len(prompt) for prompt in bench.prompts],
        "shared_tokens": case.instruction,
        "answer_tokens": case.steps,
        **texts,
        "seconds": {k: {"median": middle[k], "lowest": min(v), "highest": max(v)} for k, v in times.items()},
        **{f"x_{count}": middle["one_at_a_time"] / middle[f"now_{count}"] for count in POPULATIONS},
        **{f"formerly_x_{count}": middle[f"formerly_{count}"] / middle[f"now_{count}"] for count in POPULATIONS},
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="toy shapes: does it run, not how fast is it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="one case")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="peft")
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
    result: dict[str, Any] = {"machine": machine("cpu"), "small": options.small, "cases": {}}
    for case in cases(small=options.small):
        key = case.shape.key
        if options.only not in (None, key):
            continue
        found = result["cases"][key] = measure(case, rounds=1 if options.small else options.rounds)
        print(f"{key}: {found['share_of_equal_texts']:.0%} of the texts are equal, {found['different_texts']} differ")
        for what, seconds in found["seconds"].items():
            low, mid, high = (1e3 * seconds[name] for name in ("lowest", "median", "highest"))
            print(f"  {what}: {mid:.0f} ms per candidate ({low:.0f} to {high:.0f})", flush=True)
        if options.json:  # after every case: a long run that is cut short has something to show
            options.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
