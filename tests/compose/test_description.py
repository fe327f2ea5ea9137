"""Facts from the config and header alone; every way in which the two can disagree is an error."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compose.description import describe, describe_files
from compose.errors import MalformedAdapter, UnsupportedAdapter

A = "base_model.model.layer.q.lora_A.weight"
B = "base_model.model.layer.q.lora_B.weight"
SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def test_facts_of_an_adapter_that_peft_saved(peft_adapter: Callable[..., Path]) -> None:
    directory = peft_adapter("llama", r=4, lora_alpha=8, rank_pattern={"v_proj": 2}, use_rslora=True)
    facts = describe(directory)
    assert facts.supported and facts.refusal is None
    assert (facts.peft_type, facts.task_type, facts.scaling_kind, facts.alpha) == ("LORA", "CAUSAL_LM", "rslora", 8.0)
    assert (facts.rank_min, facts.rank_max, facts.has_patterns) == (2, 4, True)
    assert facts.target_modules == ("down_proj", "q_proj", "v_proj")
    assert facts.dtypes == ("float32",)
    by_path = {module.path: module for module in facts.modules}
    assert list(by_path) == sorted(by_path)
    down = by_path["model.layers.0.mlp.down_proj"]
    assert (down.rank, down.in_features, down.out_features, down.scaling) == (4, 24, 16, 4.0)
    assert by_path["model.layers.1.self_attn.v_proj"].scaling == pytest.approx(8 / 2**0.5)
    assert facts.parameter_count == sum(m.rank * (m.in_features + m.out_features) for m in facts.modules)


def test_a_config_in_memory_and_a_file_of_any_name_will_do(write_adapter: Callable[..., Path], tmp_path: Path) -> None:
    directory = write_adapter()
    blob = shutil.copyfile(directory / "adapter_model.safetensors", tmp_path / "0a1b2c")
    found = describe_files((directory / "adapter_config.json").read_bytes(), blob, name="adapter")
    assert found == describe(directory)


def test_unsupported_families_are_described_as_far_as_possible(write_adapter: Callable[..., Path]) -> None:
    facts = describe(write_adapter({"base_model.model.q.hra_u": torch.ones(4, 1)}, peft_type="HRA"))
    assert not facts.supported and facts.refusal is not None and facts.refusal.family == "HRA"
    assert (facts.base_model, facts.parameter_count, facts.modules) == ("some/base", 4, ())


def test_describing_needs_no_torch(write_adapter: Callable[..., Path]) -> None:
    directory = write_adapter()
    code = (
        "import sys, pathlib, compose, compose.recipe, compose.base_model, compose.compatibility;"
        f"facts = compose.describe(pathlib.Path({str(directory)!r}));"
        "assert facts.rank_max == 2;"
        "heavy = {'torch', 'numpy', 'safetensors', 'transformers', 'fastapi', 'sqlalchemy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


@pytest.mark.parametrize(
    "key",
    [
        "base_model.model.layer.q.lora_{}.default.weight",
        "base_model.model.layer.q.lora_{}.my_name.weight",
        "base_model.model.base_model.model.layer.q.lora_{}.weight",
        "layer.q.lora_{}.weight",
        "base_model.model._orig_mod.layer.q.lora_{}.weight",
        "base_model.model.layer._fsdp_wrapped_module.q.lora_{}.weight",
    ],
)
def test_dirty_names_are_read_as_the_clean_ones(write_adapter: Callable[..., Path], key: str) -> None:
    facts = describe(write_adapter({key.format("A"): torch.ones(2, 6), key.format("B"): torch.ones(5, 2)}))
    assert [module.path for module in facts.modules] == ["layer.q"]


BAD = {
    "A without B": ({A: torch.ones(2, 6)}, {}, r"layer\.q has lora_A but no lora_B"),
    "B without A": ({B: torch.ones(5, 2)}, {}, r"layer\.q has lora_B but no lora_A"),
    "ranks of A and B": ({A: torch.ones(2, 6), B: torch.ones(5, 3)}, {}, "expected lora_B with 2 columns"),
    "one dimension": ({A: torch.ones(2), B: torch.ones(5, 2)}, {}, "expected two dimensions"),
    "integers": ({A: torch.ones(2, 6, dtype=torch.int64), B: torch.ones(5, 2)}, {}, "dtype int64, expected"),
    "empty ZeRO-3 tensors": ({A: torch.ones(0), B: torch.ones(0)}, {}, r"is empty \(shape \[0\]\)"),
    "rank 0": ({A: torch.ones(0, 6), B: torch.ones(5, 0)}, {}, "is empty"),
    "no tensors": ({}, {}, "holds no tensor"),
    "r of the config": ({A: torch.ones(2, 6), B: torch.ones(5, 2)}, {"r": 4}, "lora_A has rank 2, .* says 4"),
    "rank_pattern": (
        {A: torch.ones(2, 6), B: torch.ones(5, 2)},
        {"rank_pattern": {"q": 3}},
        "lora_A has rank 2, .* says 3",
    ),
    "DoRA without its magnitudes": (
        {A: torch.ones(2, 6), B: torch.ones(5, 2)},
        {"use_dora": True},
        "no lora_magnitude_vector",
    ),
    "a stranger": (
        {A: torch.ones(2, 6), B: torch.ones(5, 2), "base_model.model.q.lora_C": torch.ones(1)},
        {},
        "lora_C belongs to no LoRA factor",
    ),
    "two adapters in one file": (
        {A: torch.ones(2, 6), B: torch.ones(5, 2), A.replace("weight", "default.weight"): torch.ones(2, 6)},
        {},
        "are both lora_A of",
    ),
}


@pytest.mark.parametrize(("tensors", "fields", "said"), BAD.values(), ids=BAD.keys())
def test_tensors_that_make_no_adapter_are_refused(
    write_adapter: Callable[..., Path], tensors: dict[str, torch.Tensor], fields: dict[str, object], said: str
) -> None:
    with pytest.raises(MalformedAdapter, match=said) as caught:
        describe(write_adapter(tensors, **fields), name="ns/name")
    assert caught.value.message.startswith("ns/name")


def test_missing_files_and_pickles_are_refused_by_name(write_adapter: Callable[..., Path]) -> None:
    directory = write_adapter()
    (directory / "adapter_model.safetensors").unlink()
    with pytest.raises(MalformedAdapter, match=r"has no adapter_model\.safetensors"):
        describe(directory)
    (directory / "adapter_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(UnsupportedAdapter, match=r"(?s)adapter_model\.bin is a pickle.*save_pretrained"):
        describe(directory)
    (directory / "adapter_config.json").unlink()
    with pytest.raises(MalformedAdapter, match=r"has no adapter_config\.json"):
        describe(directory)


@pytest.mark.shared
def test_the_public_adapter_is_described() -> None:
    (directory,) = (SHARED / "wild_adapters").iterdir()
    facts = describe(directory)
    assert (facts.rank_max, facts.dtypes, facts.base_model) == (1, ("float16",), "cyberagent/open-calm-1b")
    assert {module.scaling for module in facts.modules} == {32.0}
    assert facts.target_modules == ("query_key_value",)


@pytest.mark.shared
def test_all_minilm_adapters_are_described_alike() -> None:
    names = [entry.name for entry in (SHARED / "minilm_adapters").iterdir() if entry.is_dir()]
    facts = [describe(SHARED / "minilm_adapters" / name) for name in names]
    assert len(facts) == 18
    assert len({tuple(fact.modules) for fact in facts}) == 1
    assert all(json.dumps(dict(fact.config)) for fact in facts)
