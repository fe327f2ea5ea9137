"""Kinds that PEFT 0.21's `add_weighted_adapter` mixes wrongly without a word: ours is the sum of the dense changes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compose.base_weights import BaseWeights
from compose.fuse import fuse
from compose.merge import merge
from compose.peft_files import read_adapter

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
WEIGHTS = [0.7, -0.4]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "rslora": ("llama", {"target_modules": ["q_proj", "v_proj"], "use_rslora": True}),
    "dora": ("llama", {"target_modules": ["q_proj", "v_proj"], "use_dora": True}),
    "lora_bias": ("bert", {"target_modules": ["query", "value"], "lora_bias": True}),
    "pissa": ("llama", {"target_modules": ["q_proj", "v_proj"], "init_lora_weights": "pissa"}),
    "patterns": ("llama", {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}, "use_rslora": True}),
}


@pytest.mark.parametrize("name", CASES)
def test_ours_is_the_sum_of_dense_changes_and_pefts_is_not(
    name: str, peft_saved: Callable[..., Any], make_base: Callable[[str], Any], tmp_path: Path
) -> None:
    from peft import LoraConfig, PeftModel

    kind, fields = CASES[name]
    saved = [
        peft_saved(kind, LoraConfig(r=3, lora_alpha=5, **fields), seed=seed, name=f"{name}-{seed}") for seed in (1, 2)
    ]
    base = BaseWeights(saved[0].base)
    before = {key: base.tensor(key) for key in base.shapes}
    truth = {
        key: start + sum(w * (one.merged[key] - start) for w, one in zip(WEIGHTS, saved, strict=True))
        for key, start in before.items()
    }
    adapters = [read_adapter(one.adapter, base=base) for one in saved]
    fuse(saved[0].base, merge(adapters, WEIGHTS, method="exact").adapter, tmp_path / "fused")
    ours = {k: v for file in (tmp_path / "fused").glob("*.safetensors") for k, v in load_file(file).items()}
    for key, expected in truth.items():
        torch.testing.assert_close(ours[key], expected, rtol=1e-4, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(make_base(kind), saved[0].adapter, adapter_name="one")
        model.load_adapter(saved[1].adapter, adapter_name="two")
        model.add_weighted_adapter(["one", "two"], WEIGHTS, "mix", combination_type="cat")
        model.set_adapter("mix")
        theirs = model.merge_and_unload().state_dict()
    assert any((theirs[key] - expected).abs().max() > 1e-2 for key, expected in truth.items())
