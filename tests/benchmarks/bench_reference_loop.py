"""One search step the way LoRAHub's code does it, and ours, in one process, interleaved; prints ratios.

    python tests/benchmarks/bench_reference_loop.py [--small] [--json FILE] [--rounds N]

The reference loop, written down again from what `lorahub/algorithm.py` of sail-sg/lorahub does, on today's PEFT:
  1. loading: `PeftModel.from_pretrained(base, folder)` for every adapter, one after the other, keeping each one's
     state dict;
  2. per evaluation: every tensor of every state dict times its weight, summed key by key in Python;
  3. the sum is put into the model with `set_peft_model_state_dict`;
  4. one forward over all examples as one padded batch, labels and all (a causal model computes its whole output layer).
Ours: adapters are read and stacked; one evaluation is `scorer.example_losses` of one weight row (and of eight at once).

Models are random, in the published shapes; adapters are random files of rank 16 on q and v. The losses of both ways are
compared before anything is timed: in float64 with weights of up to 0.3, as a random model at full weights is chaotic
(for causal models up to 1e-6, as transformers rounds their logits to float32 before its own loss).
Times are process CPU seconds with one torch thread: medians, with the lowest and highest.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import peft
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from compose.examples import Example, Examples
from compose.peft_files import read_adapter
from compose.scoring import LoadedBase, make_scorer

ADAPTERS, RANK, EXAMPLES = 20, 16, 5


@dataclass(frozen=True)
class Shape:
    """A base model, where its adapters sit, and how many tokens go in."""

    name: str
    build: Callable[[], Any]
    kind: Any
    targets: tuple[str, ...]
    task_type: str
    input_tokens: int


def t5(d_model: int, layers: int, vocabulary: int) -> Any:
    heads = d_model // 64
    config = T5Config(
        vocab_size=vocabulary, d_model=d_model, d_ff=4 * d_model, num_layers=layers, num_heads=heads,
        decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def llama(hidden: int, layers: int, vocabulary: int) -> Any:
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=11 * hidden // 4, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=hidden // 64, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def shapes(*, small: bool) -> list[Shape]:
    width, deep, vocabulary = (128, 2, 1000) if small else (512, 0, 32128)
    return [
        Shape("t5_short", lambda: t5(width, deep or 8, vocabulary), "seq2seq", ("q", "v"), "SEQ_2_SEQ_LM", 24),
        Shape("llama", lambda: llama(width, deep or 12, vocabulary), "causal", ("q_proj", "v_proj"), "CAUSAL_LM", 64),
    ]


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Token i is the word "i"; 0 pads, 1 ends."""
    words = {"<pad>": 0, "</s>": 1, **{str(i): i for i in range(2, vocabulary)}}
    inner = Tokenizer(models.WordLevel(words, unk_token="2"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>")


def random_examples(shape: Shape, vocabulary: int) -> Examples:
    """Lengths that differ by a quarter, about 8 tokens out."""
    random = np.random.default_rng(0)

    def text(length: int) -> str:
        return " ".join(map(str, random.integers(2, vocabulary, length)))

    lengths = np.linspace(0.75, 1.25, EXAMPLES)
    return Examples(tuple(Example(text(round(f * shape.input_tokens)), text(round(f * 8))) for f in lengths))


def write_adapters(shape: Shape, model: Any, folder: Path, count: int) -> list[Path]:
    """Random adapters as PEFT saves them."""
    config = peft.LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules=list(shape.targets), task_type=shape.task_type,
        init_lora_weights=False,
    )  # fmt: skip
    folders = []
    wrapped = peft.get_peft_model(model, config)
    for i in range(count):
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=0.02)
        wrapped.save_pretrained(folder / f"adapter-{i}")
        folders.append(folder / f"adapter-{i}")
    wrapped.unload()
    return folders


class ReferenceLoop:
    """Steps 1 to 4 above."""

    def __init__(self, shape: Shape, base: LoadedBase, folders: list[Path], examples: Examples) -> None:
        self.model: Any = base.model
        self.states = []
        for folder in folders:
            self.model = peft.PeftModel.from_pretrained(base.model, folder)
            self.states.append({k: v.clone() for k, v in peft.get_peft_model_state_dict(self.model).items()})
        self.model.eval()
        self.batch = padded_batch(shape, base.tokenizer, examples)

    def mean_loss(self, weights: np.ndarray) -> float:
        """Token-weighted mean over the batch, as the model itself computes it."""
        final: dict[str, torch.Tensor] = {}
        for weight, state in zip(weights.tolist(), self.states, strict=True):
            for key, tensor in state.items():
                final[key] = weight * tensor if key not in final else final[key] + weight * tensor
        peft.set_peft_model_state_dict(self.model, final)
        with torch.no_grad():
            return float(self.model(**self.batch).loss)


def padded_batch(shape: Shape, tokenizer: Any, examples: Examples) -> dict[str, torch.Tensor]:
    inputs = [list(tokenizer(e.input).input_ids) for e in examples]
    labels = [[*tokenizer(e.output).input_ids, 1] for e in examples]
    rows = inputs if shape.kind == "seq2seq" else [i + o for i, o in zip(inputs, labels, strict=True)]
    if shape.kind == "causal":
        labels = [[-100] * len(i) + o for i, o in zip(inputs, labels, strict=True)]

    def pad(lists: list[list[int]], value: int) -> torch.Tensor:
        width = max(map(len, lists))
        return torch.tensor([row + [value] * (width - len(row)) for row in lists])

    mask = pad([[1] * len(row) for row in rows], 0)
    return {"input_ids": pad(rows, 0), "attention_mask": mask, "labels": pad(labels, -100)}


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def summary(times: list[float]) -> dict[str, float]:
    return {"median": statistics.median(times), "lowest": min(times), "highest": max(times)}


def new_base(shape: Shape, dtype: torch.dtype) -> LoadedBase:
    torch.manual_seed(0)
    model = shape.build().to(dtype).eval().requires_grad_(False)
    return LoadedBase(model, word_tokenizer(model.config.vocab_size), shape.kind, shape.name)


def largest_difference(shape: Shape, folders: list[Path], examples: Examples) -> float:
    """Between the two ways' losses, relative, in float64 over four candidates."""
    base, twin = new_base(shape, torch.float64), new_base(shape, torch.float64)
    adapters = [read_adapter(folder, name=folder.name) for folder in folders]
    scorer = make_scorer(base, examples=examples, adapters=adapters, params={"fold": "lorahub-compat"})
    reference = ReferenceLoop(shape, twin, folders, examples)
    weights = np.random.default_rng(1).uniform(-0.3, 0.3, (4, len(folders)))
    ours = (scorer.example_losses(weights) * scorer.token_counts).sum(1) / scorer.token_counts.sum()
    theirs = np.array([reference.mean_loss(row) for row in weights])
    return float(np.abs(ours / theirs - 1).max())


def measure(shape: Shape, *, rounds: int, steps: int) -> dict[str, Any]:
    base, twin = new_base(shape, torch.float32), new_base(shape, torch.float32)
    examples = random_examples(shape, base.model.config.vocab_size)
    with tempfile.TemporaryDirectory() as folder:
        folders = write_adapters(shape, new_base(shape, torch.float32).model, Path(folder), ADAPTERS)
        difference = largest_difference(shape, folders, examples)

        def ours() -> Any:
            adapters = [read_adapter(one, name=one.name) for one in folders]
            return make_scorer(base, examples=examples, adapters=adapters, params={"fold": "lorahub-compat"})

        scorer, reference = ours(), ReferenceLoop(shape, twin, folders, examples)
        random = np.random.default_rng(2)
        times: dict[str, list[float]] = {key: [] for key in ("load_ref", "load", "step_ref", "step", "step_of_8")}
        for _ in range(rounds):
            fresh = new_base(shape, torch.float32)
            times["load"].append(seconds(ours))
            times["load_ref"].append(seconds(lambda fresh=fresh: ReferenceLoop(shape, fresh, folders, examples)))
            for row in random.uniform(-0.3, 0.3, (steps, ADAPTERS)):
                times["step_ref"].append(seconds(lambda row=row: reference.mean_loss(row)))
                times["step"].append(seconds(lambda row=row: scorer.example_losses(row[None])))
            eight = random.uniform(-0.3, 0.3, (8, ADAPTERS))
            times["step_of_8"].append(seconds(lambda eight=eight: scorer.example_losses(eight)) / 8)
    found = {key: summary(values) for key, values in times.items()}
    median = {key: value["median"] for key, value in found.items()}
    return {
        "parameters": sum(p.numel() for p in base.model.parameters()),
        "largest_relative_loss_difference": difference,
        "cpu_seconds": found,
        "load_x": median["load_ref"] / median["load"],
        "step_x": median["step_ref"] / median["step"],
        "step_of_8_x": median["step_ref"] / median["step_of_8"],
    }


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "commit": git.stdout.strip() or None,
        "torch": torch.__version__,
        "peft": peft.__version__,
        "python": platform.python_version(),
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="toy shapes: does it run, not how fast is it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="peft")
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
    rounds, steps = (1, 1) if options.small else (options.rounds, 3)
    result: dict[str, Any] = {"machine": machine(), "small": options.small}
    for shape in shapes(small=options.small):
        result[shape.name] = measure(shape, rounds=rounds, steps=steps)
        print_shape(shape.name, result[shape.name])
    print(f"{result['machine']}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


def print_shape(name: str, found: dict[str, Any]) -> None:
    print(
        f"{name}: {found['parameters'] / 1e6:.1f}M parameters, {ADAPTERS} adapters of rank {RANK}, {EXAMPLES} examples"
    )
    print(f"  losses differ by at most {found['largest_relative_loss_difference']:.1e} (relative, float64)")
    for what, ref, own, ratio in (
        ("loading", "load_ref", "load", "load_x"),
        ("evaluation", "step_ref", "step", "step_x"),
        ("evaluation, 8 at once", "step_ref", "step_of_8", "step_of_8_x"),
    ):
        a, b = found["cpu_seconds"][ref], found["cpu_seconds"][own]
        print(
            f"  {what}: {found[ratio]:.2f}x   reference {a['median']:.4f} s ({a['lowest']:.4f} to {a['highest']:.4f}), "
            f"ours {b['median']:.4f} s ({b['lowest']:.4f} to {b['highest']:.4f})"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
