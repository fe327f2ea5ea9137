"""Every family: our change of the base is what PEFT's merge_and_unload makes of the adapter that PEFT saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from compose.base_weights import BaseWeights
from compose.description import describe
from compose.errors import IncompatibleAdapters, UnsupportedAdapter
from compose.fuse import fuse
from compose.merge import merge
from compose.peft_files import read_adapter

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
NEED_BASE = ("dora", "pissa", "olora", "vera")
QV = ["q_proj", "v_proj"]


def lora(**fields: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(**{"r": 3, "lora_alpha": 5, "target_modules": QV, **fields})


def ia3() -> Any:
    from peft import IA3Config

    return IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])


def test_the_fused_base_has_the_weights_of_pefts_merge(family: Any, tmp_path: Path) -> None:
    base = BaseWeights(family.base)
    fuse(family.base, read_adapter(family.adapter, base=base), tmp_path / "fused")
    fused = {k: v for file in (tmp_path / "fused").glob("*.safetensors") for k, v in load_file(file).items()}
    before = {name: base.tensor(name) for name in base.shapes}
    changed = 0
    for key, weight in fused.items():
        expected = family.merged[key]
        torch.testing.assert_close(weight, expected, rtol=2e-5, atol=2e-5)
        changed += int(not torch.equal(before[key], weight))
    assert changed >= 1
    assert {k for k, v in family.merged.items() if k in before and not torch.equal(before[k], v)} <= {
        k for k, v in fused.items() if not torch.equal(before[k], v)
    }


def test_the_description_says_the_shapes_that_reading_gives(family: Any) -> None:
    base = BaseWeights(family.base)
    facts = describe(family.adapter, base_shapes=base.shapes)
    adapter = read_adapter(family.adapter, base=base)
    assert bool(facts.needs_base) == family.name.startswith(NEED_BASE)
    described = {m.path: (m.rank, m.in_features, m.out_features, m.kind, m.kernel) for m in facts.modules}
    read = {p: (f.rank, f.in_features, f.out_features, f.kind, f.kernel) for p, f in adapter.modules.items()}
    assert {p: row for p, row in described.items() if p not in adapter.multipliers} == read
    assert {extra.name for extra in facts.extras} == set(adapter.replaced)
    if facts.needs_base:
        with pytest.raises(UnsupportedAdapter, match="base model must be at hand"):
            read_adapter(family.adapter)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_the_initial_adapter_will_do_instead_of_the_base(start: str, peft_saved: Callable[..., Any]) -> None:
    saved = peft_saved("llama", lora(init_lora_weights=start))
    by_base = read_adapter(saved.adapter, base=BaseWeights(saved.base))
    by_initial = read_adapter(saved.adapter, initial=saved.initial)
    for path, factors in by_base.modules.items():
        torch.testing.assert_close(by_initial.modules[path].delta(), factors.delta(), rtol=1e-4, atol=1e-5)


def test_a_random_start_of_pissa_needs_the_initial_adapter(peft_saved: Callable[..., Any]) -> None:
    saved = peft_saved("llama", lora(init_lora_weights="pissa_niter_4"))
    with pytest.raises(UnsupportedAdapter, match=r"(?s)pissa_niter_4.*saved before training"):
        read_adapter(saved.adapter, base=BaseWeights(saved.base))
    assert read_adapter(saved.adapter, initial=saved.initial).max_rank == 6


def test_a_pruned_adalora_keeps_the_divisor_of_the_rank_before(peft_saved: Callable[..., Any], tmp_path: Path) -> None:
    """Rows of zero E are what pruning leaves out; leaving them out must not change the delta, down to rank 0."""
    from peft import AdaLoraConfig

    saved = peft_saved("llama", AdaLoraConfig(target_modules=QV, init_r=6, target_r=3, total_step=10, lora_alpha=5))
    whole = load_file(saved.adapter / "adapter_model.safetensors")
    for keep in (4, 0):
        pruned, zeroed = dict(whole), dict(whole)
        for key, value in whole.items():
            if key.endswith("lora_E"):
                zeroed[key] = torch.cat([value[:keep], torch.zeros_like(value[keep:])])
            pruned[key] = value[:, :keep].contiguous() if key.endswith("lora_B") else value[:keep].contiguous()
        folders = []
        for number, tensors in enumerate((pruned, zeroed)):
            folders.append(tmp_path / f"{keep}-{number}")
            folders[-1].mkdir()
            save_file(tensors, folders[-1] / "adapter_model.safetensors")
            (folders[-1] / "adapter_config.json").write_bytes((saved.adapter / "adapter_config.json").read_bytes())
        one, two = map(read_adapter, folders)
        for path, factors in one.modules.items():
            torch.testing.assert_close(factors.delta(), two.modules[path].delta(), rtol=1e-6, atol=1e-7)


def test_ia3_is_mixed_around_one_and_not_with_lora(peft_saved: Callable[..., Any]) -> None:
    one = read_adapter(peft_saved("llama", ia3(), seed=1, name="one").adapter)
    two = read_adapter(peft_saved("llama", ia3(), seed=2, name="two").adapter)
    mixed = merge([one, two], [0.3, -0.2]).adapter
    for path, multiplier in mixed.multipliers.items():
        expected = 1 + 0.3 * (one.multipliers[path].values - 1) - 0.2 * (two.multipliers[path].values - 1)
        torch.testing.assert_close(multiplier.values, expected)
    torch.testing.assert_close(
        merge([one], [1.0]).adapter.multipliers[path].values, one.multipliers[path].values, rtol=1e-6, atol=1e-6
    )
    other = read_adapter(peft_saved("llama", lora(), name="lora").adapter)
    with pytest.raises((IncompatibleAdapters, UnsupportedAdapter), match="IA3, which multiplies weights"):
        merge([one, other], [1.0, 1.0])
