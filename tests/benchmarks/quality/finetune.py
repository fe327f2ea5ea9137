"""The ordinary alternative to mixing: a LoRA trained with PEFT on the same few examples.

The setting of the adapters that are mixed (rank 8, alpha 16, attention of layers 3 to 5, cross-entropy over 20 *
cosine to the labels' embeddings by the frozen base), all examples in one batch, AdamW. Of the learning rates 1e-4, 3e-4
and 1e-3 the best mean was taken on draw 0 of the held-out tasks, 16 examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional

from compose.adapter import LoraAdapter
from compose.examples import Examples
from compose.peft_files import read_adapter
from compose.scoring import LoadedBase

STEPS = 40
LEARNING_RATE = 3e-4
MODULES = r"encoder\.layer\.[345]\.attention\.(self\.(query|key|value)|output\.dense)"


def finetuned(base: LoadedBase, examples: Examples, labels: Mapping[str, str], *, seed: int) -> LoraAdapter:
    """The adapter after `STEPS` steps over all `examples`."""
    names = list(labels)
    with torch.no_grad():
        targets = torch.cat([_embed(base, [text]) for text in labels.values()])
    wanted = torch.tensor([names.index(example.output) for example in examples])
    torch.manual_seed(seed)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=MODULES, lora_dropout=0.0)
    model = get_peft_model(base.model, config)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=LEARNING_RATE, weight_decay=0)
    try:
        for _ in range(STEPS):
            embedded = _embed(replace(base, model=model), [example.input for example in examples])
            loss = functional.cross_entropy(20 * embedded @ targets.T, wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            return read_adapter(Path(folder), name="finetuned")
    finally:
        model.unload()  # the base is shared


def _embed(base: LoadedBase, texts: list[str]) -> torch.Tensor:
    """(texts, width) of unit length: means over tokens, as the product's label matching takes them."""
    tokens = base.tokenizer(texts, truncation=True, max_length=56, padding=True, return_tensors="pt")
    hidden = base.model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    weight = tokens.attention_mask.unsqueeze(-1).to(hidden.dtype)
    return functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)
