"""What is read has the delta that PEFT would apply, for every setting; values that are no numbers are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from compose.errors import MalformedAdapter, UnsupportedAdapter
from compose.peft_files import effect, read_adapter

A = "base_model.model.layer.q.lora_A.weight"
B = "base_model.model.layer.q.lora_B.weight"

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("t5", {"r": 4, "lora_alpha": 8}),
    ("llama", {"r": 4, "lora_alpha": 3, "use_rslora": True}),
    ("llama", {"r": 4, "lora_alpha": 8, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 5}}),
    ("llama", {"r": 4, "rank_pattern": {r"layers\.0\.mlp\.down_proj": 7}, "use_rslora": True}),
    ("llama", {"r": 4, "layers_to_transform": [1]}),
    ("llama", {"r": 2, "target_modules": r".*self_attn\.(q|k)_proj"}),
    ("llama", {"r": 2, "init_lora_weights": "orthogonal"}),
    ("gpt2", {"r": 4, "lora_alpha": 16}),
    ("gpt2", {"r": 3, "use_rslora": True, "alpha_pattern": {"attn.c_proj": 2}}),
]


@pytest.mark.parametrize(("kind", "settings"), SETTINGS, ids=range(len(SETTINGS)))
def test_deltas_are_those_that_peft_adds_to_the_base(
    peft_adapter: Callable[..., Path], tiny_model: Callable[[str], nn.Module], kind: str, settings: dict[str, Any]
) -> None:
    from peft import PeftModel

    directory = peft_adapter(kind, **settings)
    adapter = read_adapter(directory)
    base = tiny_model(kind)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    merged = PeftModel.from_pretrained(base, directory).merge_and_unload().state_dict()
    changed = {name for name in before if not torch.equal(before[name], merged[name])}
    assert changed == {f"{path}.weight" for path in adapter.modules}
    for path, factors in adapter.modules.items():
        delta = factors.delta().T if kind == "gpt2" else factors.delta()
        torch.testing.assert_close(merged[f"{path}.weight"] - before[f"{path}.weight"], delta, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_dtype_becomes_float32(write_adapter: Callable[..., Path], dtype: torch.dtype) -> None:
    a, b = torch.randn(2, 6).to(dtype), torch.randn(5, 2).to(dtype)
    adapter = read_adapter(write_adapter({A: a, B: b}))
    factors = adapter.modules["layer.q"]
    assert adapter.dtype == dtype
    assert factors.A.dtype == factors.B.dtype == torch.float32
    assert torch.equal(factors.A, a.float()) and torch.equal(factors.B, b.float())


def test_different_dtypes_in_one_file_give_the_widest(write_adapter: Callable[..., Path]) -> None:
    directory = write_adapter({A: torch.randn(2, 6).half(), B: torch.randn(5, 2).bfloat16()})
    assert read_adapter(directory).dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("look", [read_adapter, effect])
def test_values_that_are_no_numbers_are_refused_by_key(
    write_adapter: Callable[..., Path], value: float, look: Callable[[Path], object]
) -> None:
    b = torch.ones(5, 2)
    b[3, 1] = value
    with pytest.raises(MalformedAdapter, match=r"layer\.q\.lora_B\.weight holds (NaN|infinite values)"):
        look(write_adapter({A: torch.ones(2, 6), B: b}))


def test_a_float64_that_float32_cannot_hold_is_refused(write_adapter: Callable[..., Path]) -> None:
    with pytest.raises(MalformedAdapter, match="infinite"):
        read_adapter(write_adapter({A: torch.full((2, 6), 1e300, dtype=torch.float64), B: torch.ones(5, 2)}))


def test_an_unsupported_family_is_refused_with_its_remedy(write_adapter: Callable[..., Path]) -> None:
    with pytest.raises(UnsupportedAdapter, match=r"(?s)ns/name: KaSA: .*merge_and_unload") as caught:
        read_adapter(write_adapter(kasa_config={"x": 1}), name="ns/name")
    assert caught.value.remedy


def test_an_untrained_adapter_changes_nothing_and_a_half_trained_one_says_where(
    write_adapter: Callable[..., Path],
) -> None:
    fresh = effect(write_adapter({A: torch.ones(2, 6), B: torch.zeros(5, 2)}, name="fresh"))
    assert fresh.zero_delta and fresh.zero_modules == ("layer.q",)
    k = {"base_model.model.k.lora_A.weight": torch.ones(2, 6), "base_model.model.k.lora_B.weight": torch.ones(5, 2)}
    half = effect(write_adapter({A: torch.ones(2, 6), B: torch.zeros(5, 2), **k}, name="half"))
    assert not half.zero_delta and half.zero_modules == ("layer.q",)
    assert effect(write_adapter(name="whole")).zero_modules == ()


def test_alpha_zero_changes_nothing(write_adapter: Callable[..., Path]) -> None:
    assert effect(write_adapter(lora_alpha=0)).zero_delta


def test_a_file_cut_short_is_refused(write_adapter: Callable[..., Path]) -> None:
    directory = write_adapter()
    weights = directory / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for length in range(0, len(whole), 7):
        weights.write_bytes(whole[:length])
        with pytest.raises(MalformedAdapter, match="cut short"):
            read_adapter(directory)


def test_tensors_are_read_in_any_order_of_the_file(peft_adapter: Callable[..., Path]) -> None:
    directory = peft_adapter("llama", r=2)
    before = read_adapter(directory)
    tensors = load_file(directory / "adapter_model.safetensors")
    save_file(dict(reversed(tensors.items())), directory / "adapter_model.safetensors")
    after = read_adapter(directory)
    assert list(before.modules) == list(after.modules)
    assert all(torch.equal(before.modules[p].A, after.modules[p].A) for p in before.modules)
