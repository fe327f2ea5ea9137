"""The ordinary alternative to mixing: a LoRA trained with PEFT on the same few examples.

The setting of the adapters that are mixed (rank 8, alpha 16, their modules and their loss), all examples in one batch,
AdamW at a constant rate. Encoder: of the learning rates 1e-4, 3e-4 and 1e-3 the best mean was taken on draw 0 of the
held-out tasks, 16 examples. Demo: of the rates 1e-3, 3e-3 and 1e-2 and of 40 and 100 steps the best mean on draws 0 and
1 of its tasks (`results/bench_demo.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from demo_training.base_training import make_batch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional

from compose.adapter import LoraAdapter
from compose.examples import Examples
from compose.peft_files import read_adapter
from compose.scoring import LoadedBase

Loss = Callable[[LoadedBase], Tensor]


def label_loss(base: LoadedBase, examples: Examples, labels: Mapping[str, str]) -> Loss:
    """Cross-entropy over 20 * cosine to the labels' embeddings by the frozen base."""
    names = list(labels)
    with torch.no_grad():
        targets = torch.cat([_embed(base, [text]) for text in labels.values()])
    wanted = torch.tensor([names.index(example.output) for example in examples])

    def loss(trained: LoadedBase) -> Tensor:
        embedded = _embed(trained, [example.input for example in examples])
        return functional.cross_entropy(20 * embedded @ targets.T, wanted)

    return loss


def token_loss(base: LoadedBase, examples: Examples, _: Mapping[str, str] | None) -> Loss:
    """Mean over the tokens of all outputs."""
    batch = make_batch(base.tokenizer, [(example.input, example.output) for example in examples])

    def loss(trained: LoadedBase) -> Tensor:
        found: Tensor = trained.model(**batch).loss
        return found

    return loss


@dataclass(frozen=True)
class Training:
    modules: str | list[str]
    loss: Callable[..., Loss]
    steps: int
    learning_rate: float


TRAININGS = {
    "encoder": Training(
        r"encoder\.layer\.[345]\.attention\.(self\.(query|key|value)|output\.dense)", label_loss, 40, 3e-4
    ),
    "seq2seq": Training(["q", "v"], token_loss, 100, 3e-3),
}
"""By the kind of the base: the real encoder, and the demo's T5."""


def finetuned(base: LoadedBase, examples: Examples, labels: Mapping[str, str] | None, *, seed: int) -> LoraAdapter:
    """The adapter after all steps over all `examples`."""
    training = TRAININGS[base.kind]
    loss = training.loss(base, examples, labels)
    torch.manual_seed(seed)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=training.modules, lora_dropout=0.0)
    model = get_peft_model(base.model, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=training.learning_rate, weight_decay=0)
    try:
        for _ in range(training.steps):
            value = loss(replace(base, model=model))
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
        with TemporaryDirectory() as folder:
            # "auto" would look the base up on the model hub, to see whether its vocabulary was resized
            model.save_pretrained(folder, save_embedding_layers=False)
            return read_adapter(Path(folder), name="finetuned")
    finally:
        model.unload()  # the base is shared


def _embed(base: LoadedBase, texts: list[str]) -> torch.Tensor:
    """(texts, width) of unit length: means over tokens, as the product's label matching takes them."""
    tokens = base.tokenizer(texts, truncation=True, max_length=56, padding=True, return_tensors="pt")
    hidden = base.model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    weight = tokens.attention_mask.unsqueeze(-1).to(hidden.dtype)
    return functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)
