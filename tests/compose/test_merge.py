"""Whole adapters: the union of modules, refusals by name, the report, and agreement with PEFT where PEFT is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from compose.adapter import Factors, LoraAdapter
from compose.compatibility import compare
from compose.errors import BadMethod, BadWeights, IncompatibleAdapters
from compose.export import save_adapter
from compose.merge import merge, squared_norm
from compose.methods import METHODS
from compose.peft_files import effect, read_adapter

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
Make = Callable[..., LoraAdapter]


def delta(adapter: LoraAdapter, path: str) -> torch.Tensor:
    return adapter.modules[path].delta()


@pytest.mark.parametrize("method", METHODS)
def test_modules_are_the_sorted_union_and_an_absent_one_is_zero(random_adapter: Make, method: str) -> None:
    one, two = random_adapter(1, paths=("c", "a")), random_adapter(2, paths=("b", "c"), rank=3)
    merged = merge([one, two], [0.5, 0.25], method=method).adapter
    assert list(merged.modules) == ["a", "b", "c"]
    share = 0.5**2 if method == "lorahub" else 0.5
    if METHODS[method].level not in ("core", "dense"):  # those thin out
        torch.testing.assert_close(delta(merged, "a"), share * delta(one, "a"), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_adapters_does_not_matter(random_adapter: Make, method: str) -> None:
    adapters, weights = [random_adapter(i, rank=1 + i) for i in range(3)], [0.5, -0.7, 1.1]
    if method == "slerp":  # two adapters, weights from 0
        adapters, weights = adapters[:2], [0.5, 0.7]
    there = merge(adapters, weights, method=method)
    back = merge(adapters[::-1], weights[::-1], method=method)
    assert [m.rank for m in there.report.modules] == [m.rank for m in back.report.modules]
    for path in there.adapter.modules:
        torch.testing.assert_close(delta(there.adapter, path), delta(back.adapter, path), rtol=1e-9, atol=1e-9)


def test_the_report_says_the_share_that_svd_keeps(random_adapter: Make) -> None:
    adapters, weights = [random_adapter(1), random_adapter(2)], [0.9, -0.4]
    report = merge(adapters, weights, method="svd", rank=1).report
    whole = merge(adapters, weights, method="exact").adapter
    kept, total = 0.0, 0.0
    for module in report.modules:
        values = torch.linalg.svdvals(delta(whole, module.path)).square()
        assert module.rank == 1
        assert module.retained_energy == pytest.approx(float(values[0] / values.sum()), rel=1e-9)
        kept, total = kept + float(values[0]), total + float(values.sum())
    assert report.retained_energy == pytest.approx(kept / total, rel=1e-9)
    assert merge(adapters, weights, method="svd", rank=4).report.retained_energy == pytest.approx(1.0, rel=1e-9)
    assert merge(adapters, weights, method="exact").report.retained_energy == 1.0
    assert merge(adapters, weights, method="lorahub").report.retained_energy is None


def test_nothing_to_keep_counts_as_all_kept(random_adapter: Make) -> None:
    assert merge([random_adapter(1)], [0.0], method="svd").report.retained_energy == 1.0


def test_the_squared_norm_is_that_of_the_dense_delta(random_adapter: Make) -> None:
    factors = random_adapter(1, scaling=-1.7).modules["a"]
    assert squared_norm(factors) == pytest.approx(float(factors.delta().square().sum()), rel=1e-12)


def test_negative_weights_are_explained_for_lorahub_only(random_adapter: Make) -> None:
    adapters = [random_adapter(1), random_adapter(2)]
    (note,) = merge(adapters, [0.5, -0.5]).report.notes
    assert "f(w) = f(-w)" in note
    assert merge(adapters, [0.5, 0.5]).report.notes == ()
    assert merge(adapters, [0.5, -0.5], method="exact").report.notes == ()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([], "2 adapters were given with 0 weights"),
        ([1.0], "with 1 weights"),
        ([1.0, 2.0, 3.0], "with 3 weights"),
        ([1.0, float("nan")], "adapter-2: the weight is nan"),
        ([float("inf"), 1.0], "adapter-1: the weight is inf"),
    ],
)
def test_wrong_weights_are_refused(random_adapter: Make, weights: list[float], said: str) -> None:
    with pytest.raises(BadWeights, match=said):
        merge([random_adapter(1), random_adapter(2)], weights)


def test_nothing_to_merge_is_refused() -> None:
    with pytest.raises(BadWeights, match="no adapter"):
        merge([], [])
    with pytest.raises(IncompatibleAdapters, match="has a module"):
        merge([LoraAdapter("empty", {})], [1.0])


def test_different_shapes_are_refused_all_at_once(random_adapter: Make) -> None:
    with pytest.raises(
        IncompatibleAdapters, match=r"(?s)adapter-2: the shape of a .*\(5, 8\).*\(5, 7\).*the shape of b"
    ):
        merge([random_adapter(1), random_adapter(2, sizes=(8, 5))], [1.0, 1.0])


@pytest.mark.parametrize("changed", [{"rank": 3}, {"scaling": 2.0}, {"paths": ("a",)}, {"paths": ("a", "b", "c")}])
def test_fold_compat_names_the_adapter_that_differs(random_adapter: Make, changed: dict[str, object]) -> None:
    adapters = [random_adapter(1), random_adapter(2), random_adapter(3, **changed)]
    with pytest.raises(IncompatibleAdapters, match="adapter-3: the setting of ") as caught:
        merge(adapters, [1.0, 1.0, 1.0], fold="lorahub-compat")
    assert "adapter-2" not in caught.value.message
    assert "balanced" in caught.value.remedy


def test_unknown_methods_are_refused(random_adapter: Make) -> None:
    with pytest.raises(BadMethod, match="'magic'"):
        merge([random_adapter(1)], [1.0], method="magic")


def test_the_result_keeps_what_its_parents_agree_on(random_adapter: Make) -> None:
    one = replace(random_adapter(1), dtype=torch.bfloat16, task_type="CAUSAL_LM", base_model=None)
    two = replace(random_adapter(2), dtype=torch.float16, task_type="CAUSAL_LM", fan_in_fan_out=True)
    merged = merge([one, two], [1.0, 1.0], name="mix").adapter
    assert (merged.name, merged.base_model, merged.task_type) == ("mix", "some/base", "CAUSAL_LM")
    assert (merged.dtype, merged.fan_in_fan_out) == (torch.float32, True)
    assert merge([one, replace(two, task_type="SEQ_CLS")], [1.0, 1.0]).adapter.task_type is None


@pytest.mark.shared
@pytest.mark.parametrize("method", METHODS)
def test_real_adapters_of_one_encoder_merge_and_change_something(tmp_path: Path, method: str) -> None:
    folders = sorted(path for path in (SHARED / "minilm_adapters").iterdir() if path.is_dir())
    adapters = [read_adapter(folder) for folder in folders]
    compare(adapters).raise_for_errors()
    adapters = adapters[:2] if method == "slerp" else adapters
    result = merge(adapters, [1 / len(adapters)] * len(adapters), method=method)
    assert len(result.report.modules) == 12
    save_adapter(result.adapter, tmp_path / "mix", profile="peft-pattern")
    assert effect(tmp_path / "mix").zero_modules == ()


@pytest.mark.parametrize(("method", "combination"), [("peft-linear", "linear"), ("exact", "cat"), ("svd", "svd")])
@pytest.mark.parametrize("kind", ["t5", "llama", "gpt2"])
def test_deltas_agree_with_pefts_add_weighted_adapter(
    peft_adapter: Callable[..., Path], tiny_model: Callable[[str], nn.Module], kind: str, method: str, combination: str
) -> None:
    """For plain LoRA of one rank, where PEFT is right."""
    from peft import PeftModel

    folders = [peft_adapter(kind, seed=seed, r=2, lora_alpha=6) for seed in (1, 2)]
    weights = [0.7, -0.4]
    model = PeftModel.from_pretrained(tiny_model(kind), folders[0], adapter_name="one")
    model.load_adapter(folders[1], adapter_name="two")
    rank = {"svd_rank": 2} if combination == "svd" else {}
    model.add_weighted_adapter(["one", "two"], weights, "mix", combination_type=combination, **rank)
    merged = merge([read_adapter(folder) for folder in folders], weights, method=method).adapter
    layers = {name.removeprefix("base_model.model."): m for name, m in model.named_modules() if hasattr(m, "lora_A")}
    assert set(layers) == set(merged.modules)
    for path, layer in layers.items():
        theirs = Factors(layer.lora_A["mix"].weight, layer.lora_B["mix"].weight, layer.scaling["mix"]).delta().detach()
        torch.testing.assert_close(delta(merged, path), theirs, rtol=1e-4, atol=1e-5)
