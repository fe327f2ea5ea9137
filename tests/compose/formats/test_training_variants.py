"""Ways to train that leave plain LoRA behind: QLoRA, LoRA+. Nothing in the tensors tells; the change must be right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compose.fuse import fuse
from compose.peft_files import read_adapter

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "v_proj"])


def test_what_lora_plus_trained_is_pefts_merge(
    peft_saved: Callable[..., Any], make_base: Callable[[str], Any], tmp_path: Path
) -> None:
    from peft import get_peft_model
    from peft.optimizers import create_loraplus_optimizer

    base = peft_saved("llama", lora()).base
    model = get_peft_model(make_base("llama"), lora())
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=0.05, loraplus_lr_ratio=16)
    ids = torch.tensor([[1, 5, 7, 2, 9]])
    for _ in range(3):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(tmp_path / "plus")
    fuse(base, read_adapter(tmp_path / "plus"), tmp_path / "fused")
    merged = model.merge_and_unload().state_dict()
    found, before = load_file(tmp_path / "fused" / "model.safetensors"), load_file(base / "model.safetensors")
    for key, weight in found.items():
        torch.testing.assert_close(weight, merged[key], rtol=1e-5, atol=1e-5)
    assert max(float((found[key] - before[key]).abs().max()) for key in found) > 0.01


@pytest.mark.parametrize(
    ("name", "quantised"),
    [
        ("unsloth/llama-3-8b-bnb-4bit", True),
        ("TheBloke/Llama-2-7B-GPTQ", True),
        ("org/model-AWQ", True),
        ("org/bitter-lesson-8b", False),
        ("org/model-v4", False),
        (None, False),
    ],
)
def test_what_qlora_trained_is_added_to_full_precision_and_that_is_said(
    name: str | None, quantised: bool, peft_saved: Callable[..., Any], tmp_path: Path
) -> None:
    saved = peft_saved("llama", lora())
    config = json.loads((saved.adapter / "adapter_config.json").read_text())
    # as trainers leave them there; PEFT passes over what it does not know
    hints = {"quantization_config": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "qlora": True}
    (saved.adapter / "adapter_config.json").write_text(json.dumps({**config, **hints, "base_model_name_or_path": name}))
    report = fuse(saved.base, read_adapter(saved.adapter), tmp_path / "fused")
    assert report.quantised == (name if quantised else None)
    for key, weight in load_file(tmp_path / "fused" / "model.safetensors").items():
        torch.testing.assert_close(weight, saved.merged[key], rtol=2e-5, atol=2e-5)
