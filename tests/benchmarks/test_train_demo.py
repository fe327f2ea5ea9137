"""The demo's content is what its index, its cards and `demo_training` say, and the script that made it runs."""

from __future__ import annotations

import hashlib
import json
import random
import string
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import train_demo
import yaml
from demo_training.adapter_training import BASE_NAME, RANK
from demo_training.base_training import train_base
from demo_training.evaluation import measure
from demo_training.operations import MEANINGS, OPERATIONS, apply, distinct_rows, instructed, random_text, split_of
from demo_training.plan import HELD_OUT, adapter_plans, task_plans, trained_pairs
from demo_training.tokenizer import make_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import hub.demo

CONTENT = Path(hub.demo.__file__).parent
INDEX = json.loads((CONTENT / "index.json").read_text(encoding="utf-8"))
ADAPTERS = {entry["name"]: entry for entry in INDEX["adapters"]}
TASKS = {entry["name"]: entry for entry in INDEX["tasks"]}

words = st.text(alphabet=string.ascii_lowercase, min_size=3, max_size=7)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(CONTENT / "base")


def _base() -> Any:
    return AutoModelForSeq2SeqLM.from_pretrained(CONTENT / "base").eval()


def _rows(task: str, split: str) -> list[tuple[str, str]]:
    lines = (CONTENT / "tasks" / f"{task}.{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["input"], row["output"]) for row in map(json.loads, lines)]


def _text(row: tuple[str, str]) -> str:
    """The string of a row, without an instruction."""
    return row[0].rpartition(": ")[2]


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- what is shipped


def test_everything_shipped_stays_under_twelve_megabytes() -> None:
    assert sum(path.stat().st_size for path in CONTENT.rglob("*") if path.is_file()) < 12_000_000


def test_the_index_lists_exactly_the_planned_adapters_and_tasks_and_their_files() -> None:
    assert [(e["name"], e["task"], e["purpose"]) for e in INDEX["adapters"]] == [
        (plan.name, plan.task, plan.purpose) for plan in adapter_plans()
    ]
    assert {path.name for path in (CONTENT / "adapters").iterdir()} == set(ADAPTERS)
    assert [(e["name"], tuple(e["operations"]), tuple(e["instruction"])) for e in INDEX["tasks"]] == [
        (plan.name, plan.operations, plan.instruction) for plan in task_plans()
    ]
    files = {f"{name}.{split}.jsonl" for name in TASKS for split in ("few", "test")}
    assert {path.name for path in (CONTENT / "tasks").iterdir()} == files


def test_there_are_enough_adapters_and_tasks_and_some_adapters_are_of_no_use() -> None:
    assert len(ADAPTERS) >= 12 and len(TASKS) >= 6
    assert {entry["purpose"] for entry in ADAPTERS.values()} == {"good", "irrelevant", "bad"}
    assert all(entry["remark"] for entry in ADAPTERS.values() if entry["purpose"] != "good")


def test_the_base_follows_instructions_and_copies_without_one(tokenizer: Any) -> None:
    wanted = {"upper: melon": "MELON", "rev+wrap: melon": "[nolem]", "melon": "melon"}
    batch = tokenizer(list(wanted), padding=True, return_tensors="pt")
    written = _base().generate(**batch, do_sample=False)  # with its own generation_config.json
    assert tokenizer.batch_decode(written, skip_special_tokens=True) == list(wanted.values())


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_the_adapter_loads_in_peft_and_reaches_the_exact_match_of_the_index(name: str, tokenizer: Any) -> None:
    entry = ADAPTERS[name]
    fresh = distinct_rows([entry["task"]], [], count=80, split="test", seed=31337)
    model = PeftModel.from_pretrained(_base(), CONTENT / "adapters" / name).eval()
    match, _ = measure(model, tokenizer, fresh)
    assert match == pytest.approx(entry["exact_match"], abs=0.08)
    assert (match > 0.9) == (entry["purpose"] != "bad")


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_the_card_says_what_the_index_says_and_names_the_base(name: str) -> None:
    folder, entry = CONTENT / "adapters" / name, ADAPTERS[name]
    text = (folder / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["base_model"] == BASE_NAME and front["library_name"] == "peft" and front["license"] == "apache-2.0"
    (result,) = front["model-index"][0]["results"]
    assert result["task"]["name"] == entry["task"]
    assert result["metrics"][0]["value"] == pytest.approx(entry["exact_match"], abs=6e-4)
    assert entry["remark"] in text
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["base_model_name_or_path"], config["r"], config["target_modules"]) == (BASE_NAME, RANK, ["q", "v"])


# --- the held-out tasks


@pytest.mark.parametrize("name", list(TASKS))
def test_the_rows_of_a_task_are_right_and_its_two_files_share_no_string(name: str) -> None:
    task = TASKS[name]
    texts: dict[str, set[str]] = {}
    for split, count in (("few", 16), ("test", 200)):
        rows = _rows(name, split)
        texts[split] = {_text(row) for row in rows}
        assert len(rows) == len(texts[split]) == count
        for source, wanted in rows:
            text = source.rpartition(": ")[2]
            assert source == instructed(task["instruction"], text)
            assert wanted == apply(task["operations"], text)
            assert split_of(text) == split
    assert not texts["few"] & texts["test"]


def test_no_held_out_pair_is_trained_and_training_strings_are_never_held_out() -> None:
    assert set(trained_pairs()).isdisjoint(HELD_OUT)
    assert {tuple(task["operations"]) for task in TASKS.values()} == set(HELD_OUT)
    rng = random.Random(7)
    held_out = {
        given.rpartition(": ")[2] for name in TASKS for split in ("few", "test") for given, _ in _rows(name, split)
    }
    assert held_out.isdisjoint(random_text(rng, "train") for _ in range(20_000))


# --- operations and tokenizer


@given(words)
def test_operations_keep_the_identities_that_their_meanings_promise(word: str) -> None:
    assert apply(["rev", "rev"], word) == apply(["rotl", "rotr"], word) == apply(["swap", "swap"], word) == word
    assert apply(["shift"] * 26, word) == word
    assert apply(["upper", "rotl"], word) == apply(["rotl", "upper"], word)
    assert apply(["dropf"], apply(["rev"], word)) == apply(["dropl", "rev"], word)
    assert apply(["dbl"], word)[::2] == apply(["dash", "dropl"], word) == apply(["wrap", "dropf", "dropl"], word)
    assert apply(["cap"], word).lower() == word and apply(["size"], word) == str(len(word))


@given(words, st.sampled_from([*HELD_OUT, *trained_pairs(), *((name,) for name in OPERATIONS), ()]))
def test_the_tokenizer_gives_back_every_input_and_output(word: str, names: tuple[str, ...]) -> None:
    tokenizer = make_tokenizer()
    for text in (instructed(names, word), apply(names, word)):
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_every_operation_has_a_meaning() -> None:
    assert set(MEANINGS) == set(OPERATIONS)


# --- the training script


def test_a_quick_run_writes_all_files_and_repeating_its_adapters_gives_the_same_bytes(tmp_path: Path) -> None:
    start = time.process_time()
    train_demo.main(["--out", str(tmp_path), "--quick"])
    assert time.process_time() - start < 60
    first = _digests(tmp_path)
    for name in ("base/config.json", "base/model.safetensors", "base/tokenizer.json", "base/README.md", "index.json"):
        assert name in first
    assert {f"adapters/upper/{n}" for n in ("README.md", "adapter_config.json", "adapter_model.safetensors")} < set(
        first
    )
    assert sum(name.startswith("tasks/") for name in first) == 2 * len(task_plans())
    train_demo.main(["--out", str(tmp_path), "--quick", "--keep-base"])
    assert _digests(tmp_path) == first


def test_the_base_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    def weights(seed: int) -> torch.Tensor:
        tokenizer = make_tokenizer()
        model = train_base(tokenizer, trained_pairs(), steps=3, batch=4, peak=1e-3, seed=seed, report=lambda _: None)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_keeping_a_base_that_is_not_there_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        train_demo.main(["--out", str(tmp_path), "--keep-base"])
    assert stopped.value.code == 2
    assert "there is no base in" in capsys.readouterr().err
