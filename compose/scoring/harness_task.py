"""Tasks of lm-evaluation-harness on local data as examples and objective: its prompts, its options, its metrics.

A task file (YAML) is read by the harness itself (the extra `lm-eval`), which also renders every prompt with its
few-shot examples. A task of multiple_choice becomes rows with choices, ranked by `choices.py`; the answers of a task of
generate_until go through the task's own filters and `process_results`. Functions that a task file names (`!function`)
are run.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadExamples, MissingExtra, SearchError
from ..examples import Example, Examples
from .harness_names import higher_is_better, load_yaml, metric_names
from .metric_scorer import Metric

PREFIX = "lm-eval:"
"""Objectives of generated answers are named by their file."""
LOCAL_DATA = ("json", "csv", "parquet", "text", "arrow")
RANKINGS = ("acc", "acc_norm", "acc_bytes")
SEED = 1234
"""Of the few-shot examples; the harness's own."""


@dataclass(frozen=True)
class HarnessTask:
    """Rows as the harness asks them, the objective that the task's first metric is, and how its answers end."""

    examples: Examples
    objective: str
    stop: tuple[str, ...] = ()
    max_new_tokens: int | None = None


def read_task(path: Path, *, limit: int | None = None) -> HarnessTask:
    """The first `limit` documents of a task (all by default). `BadExamples` for a task that cannot be asked this way or
    whose data is not on this machine; `MissingExtra` without the harness."""
    task = _load(path)
    docs = _requests(task, path, limit)
    if task.OUTPUT_TYPE == "multiple_choice":
        named = [metric for metric in metric_names(task) if metric in RANKINGS]
        if not named:
            raise _unfit(path, f"it has none of the metrics {', '.join(RANKINGS)}")
        rows = Examples(tuple(_choice(task, path, instances) for instances in docs))
        return HarnessTask(rows, named[0])
    settings = dict(task.config.generation_kwargs or {})
    if settings.get("do_sample") or settings.get("num_beams", 1) != 1:
        raise _unfit(path, "its answers are not greedy")
    stop = settings.get("until") or []
    return HarnessTask(
        Examples(tuple(_answer(task, path, instances) for instances in docs)),
        f"{PREFIX}{path.resolve()}",
        (stop,) if isinstance(stop, str) else tuple(stop),
        settings.get("max_gen_toks"),
    )


def harness_metric(name: str) -> Metric:
    """The metric of an objective that `read_task` has named, for the rows that it gave."""
    path = Path(name.removeprefix(PREFIX))
    task = _load(path)
    metric = metric_names(task)[0]
    if task.OUTPUT_TYPE != "generate_until":
        raise _unfit(path, "it does not generate answers")
    if not higher_is_better(task, metric):
        raise _unfit(path, f"less {metric} is better")

    def measure(predictions: Sequence[str], examples: Sequence[Example]) -> list[float]:
        docs = _requests(task, path, len(examples))
        if [_answer(task, path, [one]) for [one] in docs] != list(examples):
            raise BadExamples(f"{path.name} or its data has changed", remedy="start a new search")
        for [instance], text in zip(docs, predictions, strict=True):
            instance.resps = [text]
        task.apply_filters()
        return [_value(task, path, metric, instance) for [instance] in docs]

    return measure


def _load(path: Path) -> Any:
    try:
        import datasets
        from lm_eval.api.task import ConfigurableTask
    except ImportError as error:
        raise MissingExtra(
            "tasks of lm-evaluation-harness need the package lm-eval", remedy='pip install "mixhub[lm-eval]"'
        ) from error
    try:
        config = load_yaml(path)
    except Exception as error:  # whatever YAML, an include or a !function raise
        raise _unfit(path, f"it cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("output_type") not in ("multiple_choice", "generate_until"):
        raise _unfit(path, "its output_type is neither multiple_choice nor generate_until")
    data = config.get("dataset_path")
    if data not in LOCAL_DATA and not Path(str(data)).is_dir():
        raise _unfit(
            path, f"its dataset_path {data!r} is not local: {', '.join(LOCAL_DATA)} with data_files, or a folder"
        )
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        task = ConfigurableTask(config={"metadata": {"version": 1}, **config})
    except Exception as error:
        raise _unfit(path, f"it cannot be loaded: {error}") from error
    finally:
        if shown:
            datasets.enable_progress_bars()
    task.set_fewshot_seed(SEED)
    return task


def _requests(task: Any, path: Path, limit: int | None) -> list[list[Any]]:
    """The harness's requests of each document, in order."""
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        task.build_all_requests(limit=limit, rank=0, world_size=1)
    docs: dict[int, list[Any]] = {}
    for instance in task.instances:
        docs.setdefault(instance.doc_id, []).append(instance)
    if not docs:
        raise _unfit(path, "it has no documents")
    return list(docs.values())


def _choice(task: Any, path: Path, instances: Sequence[Any]) -> Example:
    doc = instances[0].doc
    choices, gold = [str(choice) for choice in task.doc_to_choice(doc)], task.doc_to_target(doc)
    if isinstance(gold, str):
        gold = choices.index(gold) if gold in choices else -1
    if not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise _unfit(path, f"the target of document {instances[0].doc_id} is not one of its choices")
    contexts = {instance.args[0] for instance in instances}
    spaces = {i.args[1].removesuffix(choice) for i, choice in zip(instances, choices, strict=False)}
    if len(contexts) != 1 or len(instances) != len(choices) or len(spaces) != 1 or "".join(spaces).strip():
        raise _unfit(path, "its options do not follow one common context and white space")
    return Example(contexts.pop() + spaces.pop(), choices[gold], tuple(choices))


def _answer(task: Any, path: Path, instances: Sequence[Any]) -> Example:
    if len(instances) != 1:
        raise _unfit(path, "it asks for several answers to one document")
    target = task.doc_to_target(instances[0].doc)
    first = target[0] if isinstance(target, list) and target else target
    return Example(instances[0].args[0], str(first))


def _value(task: Any, path: Path, metric: str, instance: Any) -> float:
    [*_, filtered] = instance.filtered_resps.values()
    value = task.process_results(instance.doc, [filtered]).get(metric)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise SearchError(
            f"{path.name}: its metric {metric} is one of a whole set, not of one answer",
            remedy="use --objective with a metric of single answers, such as chrf or rougeL",
        ) from error


def _unfit(path: Path, why: str) -> BadExamples:
    return BadExamples(
        f"the task {path.name} cannot be searched: {why}", remedy="give a JSONL file of examples instead"
    )
