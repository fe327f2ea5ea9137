"""Tasks of lm-evaluation-harness: the rows that it would ask, the values that it would give."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml

from compose.errors import BadExamples, MissingExtra, SearchError
from compose.examples import Example
from compose.scoring import harness_task, make_scorer
from compose.scoring.choices import ChoiceScorer
from compose.scoring.harness_task import harness_metric, read_task
from compose.scoring.objectives import objective_scorer

WEIGHTS = np.array([[1.0, 0.0, 0.0], [0.5, -0.7, 1.3], [0.0, 0.0, 0.0]])
DOCS = [
    {"q": "abc", "options": ["ab", "ghij ab", "c"], "gold": 1},
    {"q": "def", "options": ["f", "abcdefgh"], "gold": 0},
    {"q": "ghi jj", "options": ["a", "bc"], "gold": 1},
]
CHOICE: dict[str, Any] = {
    "output_type": "multiple_choice", "doc_to_target": "{{gold}}", "doc_to_choice": "{{options}}",
    "metric_list": [{"metric": "acc_norm"}, {"metric": "acc"}, {"metric": "acc_bytes"}],
}  # fmt: skip
ANSWER: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_target": "{{options[gold]}}",
    "generation_kwargs": {"until": ["\n", "e"], "max_gen_toks": 5},
    "filter_list": [
        {"name": "word", "filter": [{"function": "regex", "regex_pattern": "(\\w+)"}, {"function": "take_first"}]}
    ],
    "metric_list": [{"metric": "exact_match", "ignore_case": True, "aggregation": "mean", "higher_is_better": True}],
}


@pytest.fixture
def task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a task on local data: `task_file(CHOICE, key=value)`."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in DOCS))

    def write(task: dict[str, Any], **more: Any) -> Path:
        data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "docs.jsonl")}}}
        common = {"task": "tiny", "test_split": "test", "doc_to_text": "q: {{q}} a:", **data}
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**common, **task, **more}))
        return path

    return write


def test_a_choice_task_becomes_rows_with_choices_in_the_harness_s_words(task_file: Callable[..., Path]) -> None:
    task = read_task(task_file(CHOICE), limit=2)
    assert task.objective == "acc_norm"
    assert task.examples.rows == (
        Example("q: abc a: ", "ghij ab", ("ab", "ghij ab", "c")),
        Example("q: def a: ", "f", ("f", "abcdefgh")),
    )
    assert len(read_task(task_file(CHOICE)).examples) == 3


def test_few_shot_examples_of_the_task_stand_before_the_question(task_file: Callable[..., Path]) -> None:
    path = task_file(CHOICE, num_fewshot=1, fewshot_split="test", fewshot_config={"sampler": "first_n"})
    [first, *_] = read_task(path).examples
    assert first.input == "q: def a: f\n\nq: abc a: ", "never the question itself"


@pytest.mark.parametrize("objective", ["acc", "acc_norm", "acc_bytes"])
def test_choices_are_ranked_as_the_harness_ranks_them(
    task_file: Callable[..., Path], families: Any, objective: str
) -> None:
    path, base = task_file(CHOICE), families["llama"].base()
    make = partial(make_scorer, base, adapters=families["llama"].adapters(base.model, scalings=(2.0,)))
    scorer = objective_scorer(objective, make, examples=read_task(path).examples, kind="causal")
    assert isinstance(scorer, ChoiceScorer)
    theirs = harness_task._load(path)
    docs = list(theirs.eval_docs)
    for values, candidate in zip(scorer.values(WEIGHTS), scorer.log_likelihoods(WEIGHTS), strict=True):
        expected = [
            theirs.process_results(doc, [(float(one), False) for one in options])[objective]
            for doc, options in zip(docs, candidate, strict=True)
        ]
        assert values.tolist() == expected


def test_answers_go_through_the_task_s_own_filters_and_metric(task_file: Callable[..., Path]) -> None:
    task = read_task(task_file(ANSWER))
    assert (task.stop, task.max_new_tokens) == (("\n", "e"), 5)
    assert [row.input for row in task.examples] == ["q: abc a:", "q: def a:", "q: ghi jj a:"]
    measure = harness_metric(task.objective)
    rows = task.examples.rows
    assert list(measure([" F then f", "f", "BC."], rows)) == [0.0, 1.0, 1.0]
    assert list(measure(["", " F then f", "x"], rows[:3])) == [0.0, 1.0, 0.0]
    (task_file(ANSWER).parent / "docs.jsonl").write_text(json.dumps({**DOCS[0], "q": "other"}) + "\n")
    with pytest.raises(BadExamples, match="has changed"):
        harness_metric(task.objective)(["x"], rows[:1])


def test_a_metric_of_a_whole_set_is_refused(task_file: Callable[..., Path]) -> None:
    path = task_file(ANSWER, metric_list=[{"metric": "bleu"}])
    task = read_task(path)
    with pytest.raises(SearchError, match=r"bleu is one of a whole set(.|\n)*--objective"):
        harness_metric(task.objective)(["a"], task.examples.rows[:1])


@pytest.mark.parametrize(
    ("task", "change", "words"),
    [
        (CHOICE, {"output_type": "loglikelihood_rolling"}, "neither multiple_choice nor generate_until"),
        (CHOICE, {"dataset_path": "allenai/ai2_arc"}, "dataset_path 'allenai/ai2_arc' is not local"),
        (CHOICE, {"metric_list": [{"metric": "f1"}]}, "none of the metrics acc"),
        (CHOICE, {"target_delimiter": " -> "}, "do not follow one common context and white space"),
        (CHOICE, {"doc_to_target": "{{q}}"}, "not one of its choices"),
        (CHOICE, {"test_split": "nowhere"}, "cannot be loaded|no documents"),
        (ANSWER, {"generation_kwargs": {"until": ["x"], "do_sample": True}}, "not greedy"),
    ],
    ids=str,
)
def test_a_task_that_cannot_be_asked_is_refused_with_its_name(
    task_file: Callable[..., Path], task: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadExamples, match=rf"the task tiny.yaml cannot be searched: .*({words})"):
        read_task(task_file(task, **change))


def test_without_the_harness_the_extra_is_named(
    task_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.api.task", None)
    with pytest.raises(MissingExtra, match=r"mixhub\[lm-eval\]"):
        read_task(task_file(CHOICE))
