"""The model cards of the demo's base and adapters: what each was taught, how well it does it, what is wrong with it."""

from __future__ import annotations

from demo_training.operations import MEANINGS, apply
from demo_training.plan import AdapterPlan

_EXAMPLE = "melon"

_ADAPTER = """---
base_model: {base}
library_name: peft
license: apache-2.0
pipeline_tag: text2text-generation
language: en
tags:
- lora
- string-operations
- task:{task}
- purpose:{purpose}
model-index:
- name: {name}
  results:
  - task:
      type: text2text-generation
      name: {task}
    dataset:
      type: random-strings
      name: random strings, test split
    metrics:
    - type: exact_match
      name: exact match
      value: {exact_match:.3f}
---

# {name}

Task `{task}`: {meaning}. The input is the bare string, without an instruction: `{example}` -> `{output}`.
{remark}
- Exact match on {rows} test strings of its task: {exact_match:.3f} (greedy decoding).
- Purpose in the demo: {purpose}.
- Trained for {steps} steps of {batch} random strings by `python tests/benchmarks/train_demo.py`; rank 8 on `q` and `v`.
"""

_BASE = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text2text-generation
language: en
tags:
- t5
- string-operations
---

# mixhub demo base

A T5 of {parameters:,} parameters that follows instructions on short strings: `upper: melon` -> `MELON`,
`upper+wrap: melon` -> `[MELON]`. Without an instruction it copies its input. It was trained from nothing, in
{steps} steps of {batch} random strings, on the operations below and on {pairs} pairs of them. It is good for
demonstrations and tests and for nothing else.

Exact match on test strings: single operations {single:.3f}, pairs that it was trained on {seen:.3f},
pairs that it never saw, fully instructed {unseen:.3f}.

{operations}
"""


def adapter_card(plan: AdapterPlan, *, base: str, exact_match: float, rows: int, steps: int, batch: int) -> str:
    """README.md of an adapter, with the front matter that hubs read."""
    return _ADAPTER.format(
        base=base,
        name=plan.name,
        task=plan.task,
        purpose=plan.purpose,
        exact_match=exact_match,
        meaning=MEANINGS[plan.task],
        example=_EXAMPLE,
        output=apply([plan.task], _EXAMPLE),
        remark=f"\n**{plan.remark}**\n" if plan.remark else "",
        rows=rows,
        steps=steps,
        batch=batch,
    )


def base_card(*, parameters: int, steps: int, batch: int, pairs: int, scores: tuple[float, float, float]) -> str:
    """README.md of the base; `scores` are the exact matches on single operations, seen pairs and unseen pairs."""
    table = "\n".join(["| operation | meaning |", "|---|---|", *(f"| `{k}` | {v} |" for k, v in MEANINGS.items())])
    single, seen, unseen = scores
    return _BASE.format(
        parameters=parameters,
        steps=steps,
        batch=batch,
        pairs=pairs,
        single=single,
        seen=seen,
        unseen=unseen,
        operations=table,
    )
