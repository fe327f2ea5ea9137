"""Trains one LoRA adapter of the demo with PEFT and writes it in PEFT's own layout, with a model card.

Every adapter starts from its own random A. One shared A for all was tried too, since element-wise mixes are often said
to need it: it was worse (exact match on the twelve uninstructed tasks 0.34 against 0.51 for the same default search).
With a shared A the cross terms of two adapters are copies of their own effects, so weights of 1 and 1 double the
effect instead of adding up; with independent ones they are close to noise.
"""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from demo_training.base_training import learning_rate, make_batch
from demo_training.operations import apply, random_text
from demo_training.plan import AdapterPlan, Sizes

BASE_NAME = "mixhub/demo-base"
RANK, ALPHA = 8, 16


def train_adapter(
    base: Path, tokenizer: PreTrainedTokenizerFast, *, plan: AdapterPlan, sizes: Sizes, seed: int
) -> tuple[Any, int]:
    """(the trained PEFT model, the steps it took). Inputs are bare strings: the task is in the adapter alone."""
    model = AutoModelForSeq2SeqLM.from_pretrained(base)
    torch.manual_seed(seed)
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=["q", "v"])
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 by the old name
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        model = get_peft_model(model, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=sizes.adapter_rate, weight_decay=0.0)
    rng = random.Random(seed)
    steps = max(1, round(sizes.adapter_steps * plan.effort))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps=steps, peak=sizes.adapter_rate, warmup=20)
        texts = [random_text(rng, "train") for _ in range(sizes.batch)]
        rows = [(text, apply([plan.taught], text)) for text in texts]
        loss = model(**make_batch(tokenizer, rows)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    return model.eval(), steps


def save_adapter(model: Any, directory: Path, *, card: str) -> None:
    """Write adapter_config.json (naming the base by `BASE_NAME`), adapter_model.safetensors and README.md."""
    model.peft_config["default"].base_model_name_or_path = BASE_NAME
    # "auto" would look the base up on the model hub, to see whether its vocabulary was resized
    model.save_pretrained(directory, save_embedding_layers=False)
    # PEFT writes this set in an order that changes from process to process
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (directory / "README.md").write_text(card, encoding="utf-8")
