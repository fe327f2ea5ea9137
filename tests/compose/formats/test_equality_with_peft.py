"""Every family: our change of the base is what PEFT's merge_and_unload makes of the adapter that PEFT saved."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from compose.base_weights import BaseWeights
from compose.description import describe
from compose.errors import IncompatibleAdapters, UnsupportedAdapter
from compose.export import save_adapter
from compose.fuse import fuse
from compose.merge import merge
from compose.peft_files import read_adapter

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def lora(**fields: Any) -> Callable[[], Any]:
    def make() -> Any:
        from peft import LoraConfig

        return LoraConfig(**{"r": 3, "lora_alpha": 5, **fields})

    return make


def other(name: str, **fields: Any) -> Callable[[], Any]:
    def make() -> Any:
        import peft

        return getattr(peft, name)(**fields)

    return make


QV = ["q_proj", "v_proj"]
CONVS = ["conv1", "conv2", "conv3", "emb", "lin"]
CASES: dict[str, tuple[str, Callable[[], Any]]] = {
    "lora": ("llama", lora(target_modules=QV)),
    "rslora": ("llama", lora(target_modules=QV, use_rslora=True)),
    "patterns": ("llama", lora(target_modules=QV, rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 7})),
    "patterns and rslora": ("llama", lora(target_modules=QV, rank_pattern={"q_proj": 2}, use_rslora=True)),
    "some layers": ("llama", lora(target_modules=QV, layers_to_transform=[1])),
    "Conv1D": ("gpt2", lora(target_modules=["c_attn", "c_proj", "wte"], fan_in_fan_out=True)),
    "embedding": ("llama", lora(target_modules=["embed_tokens", "q_proj"])),
    "convolutions": ("convs", lora(target_modules=CONVS)),
    "attention": ("attention", lora(target_modules=["0"])),
    "lora_bias": ("bert", lora(target_modules=["query", "value"], lora_bias=True)),
    "bias=lora_only": ("bert", lora(target_modules=["query", "value"], bias="lora_only", task_type="SEQ_CLS")),
    "bias=all": ("bert", lora(target_modules=["query", "value"], bias="all", task_type="SEQ_CLS")),
    "modules_to_save": ("llama", lora(target_modules=QV, modules_to_save=["embed_tokens", "lm_head", "norm"])),
    "trainable tokens": ("llama", lora(target_modules=QV, trainable_token_indices=[1, 5, 7])),
    "dora": ("llama", lora(target_modules=QV, use_dora=True)),
    "dora on Conv1D": ("gpt2", lora(target_modules=["c_attn"], use_dora=True, fan_in_fan_out=True)),
    "dora everywhere": ("convs", lora(target_modules=["conv2", "emb", "lin"], use_dora=True, use_rslora=True)),
    "pissa": ("llama", lora(target_modules=QV, init_lora_weights="pissa")),
    "olora": ("llama", lora(target_modules=QV, init_lora_weights="olora", use_rslora=True)),
    "gaussian": ("llama", lora(target_modules=QV, init_lora_weights="gaussian")),
    "adalora": ("llama", other("AdaLoraConfig", target_modules=QV, init_r=6, target_r=3, total_step=10, lora_alpha=5)),
    "vera": ("llama", other("VeraConfig", target_modules=QV, r=4)),
    "vera without projection": (
        "llama",
        other("VeraConfig", target_modules=[*QV, "down_proj"], r=4, save_projection=False, projection_prng_key=7),
    ),
    "loha": ("llama", other("LoHaConfig", target_modules=QV, r=3, alpha=5)),
    "loha of high rank": ("llama", other("LoHaConfig", target_modules=QV, r=5, alpha=5, rank_pattern={"v_proj": 2})),
    "loha on convolutions": (
        "convs", other("LoHaConfig", target_modules=["conv2", "lin"], r=3, use_effective_conv2d=True)
    ),
    "loha on flat convolutions": ("convs", other("LoHaConfig", target_modules=["conv2"], r=3)),
    "lokr": ("llama", other("LoKrConfig", target_modules=QV, r=2, alpha=5)),
    "lokr of two products": ("llama", other("LoKrConfig", target_modules=QV, r=1, alpha=5, decompose_both=True)),
    "lokr on convolutions": (
        "convs", other("LoKrConfig", target_modules=["conv2", "lin"], r=2, use_effective_conv2d=True)
    ),
    "ia3": ("llama", other("IA3Config", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "ia3 with biases": (
        "bert", other("IA3Config", target_modules=["query", "intermediate.dense"], feedforward_modules=[])
    ),
    "ia3 on Conv1D": (
        "gpt2", other("IA3Config", target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"])
    ),
    "LN tuning": ("llama", other("LNTuningConfig", target_modules=["input_layernorm"])),
    "trainable tokens alone": (
        "llama", other("TrainableTokensConfig", target_modules=["embed_tokens"], token_indices=[2, 3])
    ),
}  # fmt: skip
NEED_BASE = ("dora", "pissa", "olora", "vera")


@pytest.mark.parametrize("name", CASES)
def test_the_fused_base_has_the_weights_of_pefts_merge(
    name: str, peft_saved: Callable[..., Any], tmp_path: Path
) -> None:
    kind, config = CASES[name]
    saved = peft_saved(kind, config())
    base = BaseWeights(saved.base)
    fuse(saved.base, read_adapter(saved.adapter, base=base), tmp_path / "fused")
    fused = {k: v for file in (tmp_path / "fused").glob("*.safetensors") for k, v in load_file(file).items()}
    before = {name: base.tensor(name) for name in base.shapes}
    changed = 0
    for key, weight in fused.items():
        expected = saved.merged[key]
        torch.testing.assert_close(weight, expected, rtol=2e-5, atol=2e-5)
        changed += int(not torch.equal(before[key], weight))
    assert changed >= 1
    assert {k for k, v in saved.merged.items() if k in before and not torch.equal(before[k], v)} <= {
        k for k, v in fused.items() if not torch.equal(before[k], v)
    }


@pytest.mark.parametrize("name", CASES)
def test_the_description_says_the_shapes_that_reading_gives(name: str, peft_saved: Callable[..., Any]) -> None:
    kind, config = CASES[name]
    saved = peft_saved(kind, config())
    base = BaseWeights(saved.base)
    facts = describe(saved.adapter, base_shapes=base.shapes)
    adapter = read_adapter(saved.adapter, base=base)
    assert bool(facts.needs_base) == name.startswith(NEED_BASE)
    described = {m.path: (m.rank, m.in_features, m.out_features, m.kind, m.kernel) for m in facts.modules}
    read = {p: (f.rank, f.in_features, f.out_features, f.kind, f.kernel) for p, f in adapter.modules.items()}
    assert {p: row for p, row in described.items() if p not in adapter.multipliers} == read
    assert {extra.name for extra in facts.extras} == set(adapter.replaced)
    if facts.needs_base:
        with pytest.raises(UnsupportedAdapter, match="base model must be at hand"):
            read_adapter(saved.adapter)


IN_PEFT = [name for name in CASES if name not in ("LN tuning", "trainable tokens alone", "loha on flat convolutions")]


@pytest.mark.parametrize("name", IN_PEFT)
def test_every_export_loads_in_peft_and_merges_to_the_same_weights(
    name: str, peft_saved: Callable[..., Any], make_base: Callable[[str], Any], tmp_path: Path
) -> None:
    from peft import PeftModel

    kind, config = CASES[name]
    saved = peft_saved(kind, config())
    adapter = read_adapter(saved.adapter, base=BaseWeights(saved.base))
    report = save_adapter(adapter, tmp_path / "out")
    assert report.max_change == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = PeftModel.from_pretrained(make_base(kind), tmp_path / "out").merge_and_unload().state_dict()
    assert merged.keys() == saved.merged.keys()
    for key, weight in merged.items():
        torch.testing.assert_close(weight, saved.merged[key], rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("pissa", "olora"))])
def test_the_initial_adapter_will_do_instead_of_the_base(name: str, peft_saved: Callable[..., Any]) -> None:
    kind, config = CASES[name]
    saved = peft_saved(kind, config())
    by_base = read_adapter(saved.adapter, base=BaseWeights(saved.base))
    by_initial = read_adapter(saved.adapter, initial=saved.initial)
    for path, factors in by_base.modules.items():
        torch.testing.assert_close(by_initial.modules[path].delta(), factors.delta(), rtol=1e-4, atol=1e-5)


def test_a_random_start_of_pissa_needs_the_initial_adapter(peft_saved: Callable[..., Any]) -> None:
    saved = peft_saved("llama", lora(target_modules=QV, init_lora_weights="pissa_niter_4")())
    with pytest.raises(UnsupportedAdapter, match=r"(?s)pissa_niter_4.*saved before training"):
        read_adapter(saved.adapter, base=BaseWeights(saved.base))
    assert read_adapter(saved.adapter, initial=saved.initial).max_rank == 6


def test_a_pruned_adalora_keeps_the_divisor_of_the_rank_before(peft_saved: Callable[..., Any], tmp_path: Path) -> None:
    """Rows of zero E are what pruning leaves out; leaving them out must not change the delta, down to rank 0."""
    saved = peft_saved("llama", CASES["adalora"][1]())
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
    kind, config = CASES["ia3"]
    one = read_adapter(peft_saved(kind, config(), seed=1, name="one").adapter)
    two = read_adapter(peft_saved(kind, config(), seed=2, name="two").adapter)
    mixed = merge([one, two], [0.3, -0.2]).adapter
    for path, multiplier in mixed.multipliers.items():
        expected = 1 + 0.3 * (one.multipliers[path].values - 1) - 0.2 * (two.multipliers[path].values - 1)
        torch.testing.assert_close(multiplier.values, expected)
    torch.testing.assert_close(
        merge([one], [1.0]).adapter.multipliers[path].values, one.multipliers[path].values, rtol=1e-6, atol=1e-6
    )
    other = read_adapter(peft_saved("llama", lora(target_modules=QV)(), name="lora").adapter)
    with pytest.raises((IncompatibleAdapters, UnsupportedAdapter), match="IA3, which multiplies weights"):
        merge([one, other], [1.0, 1.0])
