"""LoRAHub's search step, written down again from `lorahub/algorithm.py` of sail-sg/lorahub on today's PEFT.

1. loading: `PeftModel.from_pretrained(base, folder)` for every adapter, one after the other, keeping a deep copy of
   each one's state dict;
2. per evaluation: every tensor of every state dict times its weight, summed key by key in a Python dictionary;
3. the sum is put into the model with `set_peft_model_state_dict`;
4. one forward over all examples as one padded batch with its labels: a causal model computes its whole output layer;
5. the search: nevergrad's NGOpt with one worker from zero, weights within 1.5, on the loss plus 0.05 times the sum of
   the absolute weights over their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import nevergrad as ng
import peft
import torch

from compose.examples import Examples
from compose.scoring import LoadedBase


class ReferenceLoop:
    def __init__(self, base: LoadedBase, folders: Sequence[Path], examples: Examples) -> None:
        self.model: Any = base.model
        self.states = []
        for folder in folders:
            self.model = peft.PeftModel.from_pretrained(base.model, folder)
            self.states.append(deepcopy(peft.get_peft_model_state_dict(self.model)))
        self.model.eval()
        self.batch = padded_batch(base, examples)

    def mean_loss(self, weights: Sequence[float]) -> float:
        """Token-weighted mean over the batch, as the model itself computes it."""
        self.load(weights)
        with torch.no_grad():
            return float(self.model(**self.batch).loss)

    def load(self, weights: Sequence[float]) -> None:
        """Put the mix into the model."""
        final: dict[str, torch.Tensor] = {}
        for weight, state in zip(weights, self.states, strict=True):
            for key, tensor in state.items():
                final[key] = weight * tensor if key not in final else final[key] + weight * tensor
        peft.set_peft_model_state_dict(self.model, final)

    def search(self, budget: int) -> list[float]:
        """The best weights of `budget` evaluations."""
        count = len(self.states)
        instrument = ng.p.Array(init=[0.0] * count, upper=[1.5] * count, lower=[-1.5] * count)
        optimizer = ng.optimizers.NGOpt(parametrization=instrument, budget=budget)
        found = optimizer.minimize(lambda w: self.mean_loss(w) + 0.05 * sum(map(abs, w)) / count)
        return [float(value) for value in found.value]


def padded_batch(base: LoadedBase, examples: Examples) -> dict[str, torch.Tensor]:
    inputs = [list(base.tokenizer(e.input).input_ids) for e in examples]
    labels = [[*base.tokenizer(e.output).input_ids, 1] for e in examples]
    rows = inputs if base.kind == "seq2seq" else [i + o for i, o in zip(inputs, labels, strict=True)]
    if base.kind == "causal":
        labels = [[-100] * len(i) + o for i, o in zip(inputs, labels, strict=True)]

    def pad(lists: list[list[int]], value: int) -> torch.Tensor:
        width = max(map(len, lists))
        padded = [row + [value] * (width - len(row)) for row in lists]
        return torch.tensor(padded, device=base.model.device)

    mask = pad([[1] * len(row) for row in rows], 0)
    return {"input_ids": pad(rows, 0), "attention_mask": mask, "labels": pad(labels, -100)}
