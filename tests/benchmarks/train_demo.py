"""Makes the demo's content from nothing: `train_demo.py --out DIR [--quick] [--seed N] [--keep-base]`.

Writes `base/`, `adapters/<name>/`, `tasks/<name>.few.jsonl` and `.test.jsonl`, and `index.json` under DIR. The whole
takes about 15 minutes on one core; `--quick` makes the same files from models that learnt nothing in seconds. The
same seed on the same machine and library versions gives the same files.

Needs PEFT, which the extra `dev` installs. To ship the result, copy DIR over `hub/demo/`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from demo_training.adapter_training import BASE_NAME, save_adapter, train_adapter
from demo_training.base_training import train_base
from demo_training.cards import adapter_card, base_card
from demo_training.evaluation import measure
from demo_training.operations import OPERATIONS, Split, distinct_rows
from demo_training.plan import FULL, HELD_OUT, QUICK, Sizes, TaskPlan, adapter_plans, task_plans, trained_pairs
from demo_training.tokenizer import make_tokenizer
from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

Report = Callable[[str], None]

ADAPTER_SEED, EVALUATION_SEED, FEW_SEED, TEST_SEED = 100, 5, 1000, 2000
"""Added to the seed of the run, so that no two draws share one."""


@dataclass(frozen=True)
class Run:
    """What one call of this script was asked for."""

    sizes: Sizes
    seed: int
    keep_base: bool
    report: Report


def make_content(out: Path, run: Run) -> None:
    """Everything, under `out` (made if missing; files of the same names are replaced)."""
    tokenizer = make_tokenizer()
    _make_base(out / "base", tokenizer, run=run)
    adapters = _make_adapters(out, tokenizer, run=run)
    tasks = [_make_task(out / "tasks", plan, run=run) for plan in task_plans()]
    index = {"base": BASE_NAME, "seed": run.seed, "adapters": adapters, "tasks": tasks}
    (out / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    run.report(f"done: {len(adapters)} adapters and {len(tasks)} tasks in {out}")


def _make_base(directory: Path, tokenizer: PreTrainedTokenizerFast, *, run: Run) -> None:
    pairs, sizes = trained_pairs(), run.sizes
    if run.keep_base:
        model = T5ForConditionalGeneration.from_pretrained(directory)
    else:
        model = train_base(
            tokenizer,
            pairs,
            steps=sizes.base_steps,
            batch=sizes.batch,
            peak=sizes.base_rate,
            seed=run.seed,
            report=run.report,
        )
        model.save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)  # a fresh one: use leaves its padding in the file
    singles: Sequence[Sequence[str]] = [(name,) for name in OPERATIONS]
    single, seen, unseen = (
        _instructed_match(model, tokenizer, group, rows=sizes.test_rows // 10) for group in (singles, pairs, HELD_OUT)
    )
    run.report(f"base: exact match {single:.3f} on single operations, {seen:.3f} on seen pairs, {unseen:.3f} on unseen")
    card = base_card(
        parameters=model.num_parameters(),
        steps=sizes.base_steps,
        batch=sizes.batch,
        pairs=len(pairs),
        scores=(single, seen, unseen),
    )
    (directory / "README.md").write_text(card, encoding="utf-8")


def _instructed_match(
    model: T5ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    group: Sequence[Sequence[str]],
    *,
    rows: int,
) -> float:
    """Exact match over the tasks of `group`, each with its full instruction and the same number of rows."""
    drawn = (distinct_rows(names, names, count=rows, split="test", seed=EVALUATION_SEED) for names in group)
    return measure(model, tokenizer, [row for task in drawn for row in task])[0]


def _make_adapters(out: Path, tokenizer: PreTrainedTokenizerFast, *, run: Run) -> list[dict[str, object]]:
    """Train and write every adapter; their entries for the index."""
    entries: list[dict[str, object]] = []
    for number, plan in enumerate(adapter_plans()[: run.sizes.adapters]):
        seed = run.seed + ADAPTER_SEED + number
        model, steps = train_adapter(out / "base", tokenizer, plan=plan, sizes=run.sizes, seed=seed)
        rows = distinct_rows([plan.task], [], count=run.sizes.test_rows, split="test", seed=run.seed + EVALUATION_SEED)
        match, loss = measure(model, tokenizer, rows)
        card = adapter_card(plan, base=BASE_NAME, exact_match=match, rows=len(rows), steps=steps, batch=run.sizes.batch)
        save_adapter(model, out / "adapters" / plan.name, card=card)
        run.report(f"adapter {plan.name}: exact match {match:.3f}, loss {loss:.4f} after {steps} steps")
        entries.append(
            {"name": plan.name, "task": plan.task, "purpose": plan.purpose, "exact_match": match, "remark": plan.remark}
        )
    return entries


def _make_task(directory: Path, plan: TaskPlan, *, run: Run) -> dict[str, object]:
    """Write the two files of a task; its entry for the index. Every task draws the same strings."""
    directory.mkdir(parents=True, exist_ok=True)
    files: list[tuple[Split, int, int]] = [
        ("few", run.sizes.few_rows, run.seed + FEW_SEED),
        ("test", run.sizes.test_rows, run.seed + TEST_SEED),
    ]
    for split, count, seed in files:
        rows = distinct_rows(plan.operations, plan.instruction, count=count, split=split, seed=seed)
        lines = (json.dumps({"input": given, "output": wanted}) + "\n" for given, wanted in rows)
        (directory / f"{plan.name}.{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return {
        "name": plan.name,
        "operations": list(plan.operations),
        "instruction": list(plan.instruction),
        "expectation": plan.expectation,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="train_demo.py", description="Make the demo's content.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="a few steps each: right files, models that learnt nothing"
    )
    parser.add_argument("--keep-base", action="store_true", help="use the base that is in OUT, make only the rest")
    chosen = parser.parse_args(arguments)
    if chosen.keep_base and not (chosen.out / "base" / "model.safetensors").is_file():
        parser.error(f"--keep-base: there is no base in {chosen.out}")
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    start = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - start:6.0f} s  {line}", file=sys.stderr, flush=True)

    chosen.out.mkdir(parents=True, exist_ok=True)
    sizes = QUICK if chosen.quick else FULL
    make_content(chosen.out, Run(sizes=sizes, seed=chosen.seed, keep_base=chosen.keep_base, report=report))


if __name__ == "__main__":
    main()
