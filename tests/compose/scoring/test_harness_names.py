"""Every private name of lm-evaluation-harness that is used: the test that fails names the one that has vanished."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import _yaml_loader

import compose

HINT = "lm-eval has changed: see compose/scoring/harness_names.py"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> ConfigurableTask:
    data = tmp_path_factory.mktemp("task") / "docs.jsonl"
    data.write_text('{"q": "a", "gold": "b"}\n')
    return ConfigurableTask(
        config={
            "task": "tiny", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test", "doc_to_text": "{{q}}", "doc_to_target": "{{gold}}", "output_type": "generate_until",
            "generation_kwargs": {"until": ["\n"]}, "metadata": {"version": 1},
            "metric_list": [
                {"metric": "ter", "aggregation": "ter", "higher_is_better": False},
                {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True},
            ],
        }
    )  # fmt: skip


def test_yaml_loader_load_yaml(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("task: tiny\noutput_type: multiple_choice\n")
    assert hasattr(_yaml_loader, "load_yaml"), HINT
    assert _yaml_loader.load_yaml(tmp_path / "t.yaml") == {"task": "tiny", "output_type": "multiple_choice"}, HINT


def test_metric_fn_list(task: ConfigurableTask) -> None:
    assert list(getattr(task, "_metric_fn_list", ())) == ["ter", "exact_match"], HINT


def test_higher_is_better(task: ConfigurableTask) -> None:
    assert getattr(task, "_higher_is_better", None) == {"ter": False, "exact_match": True}, HINT


def test_they_are_used_in_one_file_only() -> None:
    private = re.compile(r"_metric_fn_list|\._higher_is_better|lm_eval\.\w*\.?_\w+|_yaml_loader")
    folder = Path(compose.__file__).parent
    users = {path.name for path in folder.rglob("*.py") if private.search(path.read_text())}
    assert users == {"harness_names.py"}
