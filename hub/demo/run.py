"""The main job on what ships with the package: publish, search, compare on held-out strings, export, load with PEFT.

Everything goes through the same actions as the command line; only the comparison on test strings is the demo's own.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from compose.examples import Examples, read_examples
from hub.actions.export import export
from hub.actions.publish import publish
from hub.actions.search import SearchDone, run
from hub.actions.search_plan import SearchOptions, new_plan
from hub.address import Address, parse_address
from hub.errors import HubError
from hub.home import Home
from hub.locate import locate

CONTENT = Path(__file__).parent
NAMESPACE = "demo"
BUDGET = 40
FIRST_TASK = "upper-rotl-given-upper"
"""What `mixhub demo` shows by itself: a task on which the best single adapter is a real opponent. `--all` shows the
rest, also where mixing fails."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Compared:
    """One row of the table: a candidate on the held-out test strings."""

    name: str
    loss: float
    """Mean over the test rows of the mean token loss, in nats."""
    exact_match: float
    """Share of the test rows whose greedy output is exactly right."""


@dataclass(frozen=True)
class TaskResult:
    task: str
    operations: str
    rows: tuple[Compared, ...]
    """base, uniform, best single, preset lorahub, default search."""
    found: SearchDone
    """The default search."""


@dataclass(frozen=True)
class PeftCheck:
    """PEFT's own loading of the exported adapter against our scoring of the same mix."""

    same_outputs: int
    rows: int
    max_loss_difference: float


class PeftMissing(HubError, ImportError):
    """The demo's last step needs PEFT, which mixhub itself does not."""


@cache
def index() -> dict[str, Any]:
    """`index.json`: the adapters (name, task, purpose) and the held-out tasks."""
    content: dict[str, Any] = json.loads((CONTENT / "index.json").read_text(encoding="utf-8"))
    return content


def task_names() -> list[str]:
    return [task["name"] for task in index()["tasks"]]


def publish_content(home: Home, say: Say) -> list[Address]:
    """Publish the base and every adapter; returns the adapters' addresses. Publishing again changes nothing."""
    base = publish(home, CONTENT / "base", parse_address(index()["base"]))
    say(f"base      {base.address}")
    addresses = []
    for adapter in index()["adapters"]:
        done = publish(home, CONTENT / "adapters" / adapter["name"], Address(NAMESPACE, adapter["name"]))
        say(f"adapter   {done.address}  {adapter['purpose']}")
        addresses.append(Address(NAMESPACE, adapter["name"]))
    return addresses


def load_libraries(say: Say) -> None:
    """Import what searching needs and load the base once, so that the first search's seconds are its own."""
    say("loading   torch, transformers and nevergrad ...")
    import compose.nevergrad_search  # noqa: F401 (loaded before the searches are timed)
    from compose.scoring.loading import load_base

    load_base(CONTENT / "base")


def search_task(home: Home, adapters: list[Address], task: str, say: Say) -> TaskResult:
    """Search one held-out task with the preset and with the default, and compare on test strings never searched on."""
    few = read_examples(CONTENT / "tasks" / f"{task}.few.jsonl")
    test = read_examples(CONTENT / "tasks" / f"{task}.test.jsonl")
    preset = _search(home, adapters, few, Address(NAMESPACE, f"{task}-lorahub"), preset="lorahub")
    say(f"searched  {task} with --preset lorahub: {preset.result.evaluations} evaluations in {preset.seconds:.1f} s")
    found = _search(home, adapters, few, Address(NAMESPACE, f"mixed-{task}"), preset=None)
    say(f"searched  {task} with the default search: {found.result.evaluations} evaluations in {found.seconds:.1f} s")
    return TaskResult(task, _operations(task), _compare(home, found, preset, test), found)


def export_and_check(home: Home, done: SearchDone, task: str, to: Path) -> PeftCheck:
    """Export the published mix to `to`, load it with PEFT on the plain base, and compare with our own scoring.

    `PeftMissing` when PEFT is not installed; the mix is exported then.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    if done.composed is None:
        raise ValueError(f"the search of {task} published nothing to export")
    export(home, done.composed.published.address, to, force=True)
    if find_spec("peft") is None:
        raise PeftMissing(
            "peft is not installed, so that it loads the exported mix was not checked",
            remedy="install peft to check it: pip install peft",
        )
    model = _peft_model(AutoModelForSeq2SeqLM.from_pretrained(CONTENT / "base"), to)
    tokenizer = AutoTokenizer.from_pretrained(CONTENT / "base")
    test = read_examples(CONTENT / "tasks" / f"{task}.test.jsonl")
    scorer = _test_scorer(home, done, test)
    weights = np.array([done.result.weights])
    ours, our_losses = scorer.predictions(weights)[0], scorer.example_losses(weights)[0]
    inputs = tokenizer([row.input for row in test], return_tensors="pt", padding=True)
    labels = tokenizer([row.output for row in test], return_tensors="pt", padding=True).input_ids
    with torch.inference_mode():
        generated = model.generate(**inputs, max_new_tokens=labels.shape[1], do_sample=False, num_beams=1)
        logits = model(**inputs, labels=labels).logits
    per_token = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    real = labels != tokenizer.pad_token_id
    losses = ((per_token * real).sum(1) / real.sum(1)).numpy()
    theirs = tokenizer.batch_decode(generated, skip_special_tokens=True)
    same = sum(mine == other for mine, other in zip(ours, theirs, strict=True))
    return PeftCheck(same, len(test), float(np.abs(losses - our_losses).max()))


def _peft_model(base: Any, adapter: Path) -> Any:
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return PeftModel.from_pretrained(base, adapter).eval()


def _search(home: Home, adapters: list[Address], few: Examples, into: Address, *, preset: str | None) -> SearchDone:
    done = run(home, new_plan(home, adapters, few, into=into, options=SearchOptions(budget=BUDGET, preset=preset)))
    if done.result.stopped:
        raise KeyboardInterrupt  # half a search is nothing to compare
    return done


def _compare(home: Home, found: SearchDone, preset: SearchDone, test: Examples) -> tuple[Compared, ...]:
    baselines = found.result.baselines
    if baselines is None:
        raise ValueError("the default search scores baselines")
    names = ("base", "uniform", f"best single ({baselines.best_single_name})", "preset lorahub", "default search")
    own = [baselines.base.weights, baselines.uniform.weights, baselines.best_single.weights, found.result.weights]
    *there, mixed = _measured(_test_scorer(home, found, test), own, test)
    # the preset mixes in another way
    [theirs] = _measured(_test_scorer(home, preset, test), [preset.result.weights], test)
    return tuple(
        Compared(name, loss, match) for name, (loss, match) in zip(names, (*there, theirs, mixed), strict=True)
    )


def _measured(scorer: Any, weights: Sequence[tuple[float, ...]], test: Examples) -> list[tuple[float, float]]:
    """(mean loss, exact match) of each weight row on the test strings."""
    rows = np.array(weights)
    losses = scorer.example_losses(rows).mean(axis=1)
    truth = [row.output for row in test]
    matches = [np.mean([p == t for p, t in zip(texts, truth, strict=True)]) for texts in scorer.predictions(rows)]
    return [(float(loss), float(match)) for loss, match in zip(losses, matches, strict=True)]


def _test_scorer(home: Home, done: SearchDone, test: Examples) -> Any:
    """A scorer of the same adapters on the test rows."""
    from compose.peft_files import read_adapter
    from compose.scoring.loading import load_base, make_scorer

    with home.read() as session:
        base = locate(session, parse_address(index()["base"]))
    return make_scorer(
        load_base(base.directory(home)),
        examples=test,
        adapters=[read_adapter(part.directory, name=part.name) for part in done.plan.parts],
        method=done.plan.options.merge_method(),
        params=done.plan.options.merge_params(),
    )


def _operations(task: str) -> str:
    described: dict[str, Any] = next(one for one in index()["tasks"] if one["name"] == task)
    return " then ".join(described["operations"])
