"""Our batched scorer against the slow way that everybody trusts: PEFT, a state dict per candidate, a row at a time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import peft
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, log_softmax

from compose.adapter import LoraAdapter
from compose.batched_model import BatchedModel
from compose.examples import Example, Examples
from compose.scoring import LoadedBase, make_scorer
from compose.stack import stack_adapters

WEIGHTS = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, -0.7, 1.3], [-1.5, 0.2, -0.1], [1 / 3, 1 / 3, 1 / 3]])
SETTINGS: dict[str, tuple[str, dict[str, object], tuple[float, ...]]] = {
    "lorahub": ("lorahub", {}, (2.0, 0.5, 1.0)),
    "lorahub-compat": ("lorahub", {"fold": "lorahub-compat"}, (2.0,)),
    "exact": ("exact", {}, (2.0, 0.5, 1.0)),
}


@pytest.fixture(params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Reference:
    """One adapter slot in PEFT; every candidate is mixed as a state dict and loaded into it."""

    def __init__(self, base: LoadedBase, family: Any, adapters: Sequence[LoraAdapter], setting: str) -> None:
        self.adapters, self.setting, self.base = adapters, setting, base
        rank = adapters[0].max_rank * (len(adapters) if setting == "exact" else 1)
        alpha = rank * (adapters[0].modules[next(iter(adapters[0].modules))].scaling if "compat" in setting else 1.0)
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=r".*(" + "|".join(family.targets) + ")$")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
            self.model = peft.get_peft_model(deepcopy(base.model), config).eval()

    def load(self, weights: Sequence[float]) -> Any:
        state: dict[str, Tensor] = {}
        for path in self.adapters[0].modules:
            parts = [adapter.modules[path] for adapter in self.adapters]
            if self.setting == "exact":
                a = torch.cat([f.A for f in parts])
                b = torch.cat([w * f.scaling * f.B for w, f in zip(weights, parts, strict=True)], 1)
            else:
                roots = [1.0 if "compat" in self.setting else f.scaling**0.5 for f in parts]
                a = sum(w * s * f.A for w, s, f in zip(weights, roots, parts, strict=True))  # type: ignore[assignment]
                b = sum(w * s * f.B for w, s, f in zip(weights, roots, parts, strict=True))  # type: ignore[assignment]
            state[f"base_model.model.{path}.lora_A.weight"] = a
            state[f"base_model.model.{path}.lora_B.weight"] = b
        report = peft.set_peft_model_state_dict(self.model, state)
        assert not report.unexpected_keys
        return self.model

    def logits(self, weights: Sequence[float], inputs: dict[str, Tensor]) -> Tensor:
        with torch.inference_mode():
            output = self.load(weights)(**inputs)
        return output.logits if hasattr(output, "logits") else output.last_hidden_state


def example_losses(reference: Reference, weights: Sequence[float], examples: Examples) -> list[float]:
    """Row by row, without padding or batches; logits to losses in float64."""
    tokenizer, kind = reference.base.tokenizer, reference.base.kind
    model = reference.load(weights)
    losses = []
    for example in examples:
        ids = tokenizer(example.input).input_ids
        labels = [*tokenizer(example.output).input_ids, tokenizer.eos_token_id]
        with torch.inference_mode():
            if kind == "seq2seq":
                logits = model(
                    input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[0, *labels[:-1]]])
                ).logits[0]
            elif kind == "causal":
                logits = model(input_ids=torch.tensor([ids + labels])).logits[0, len(ids) - 1 : -1]
            else:
                losses.append(label_loss(reference, model, ids, example.output, examples))
                continue
        losses.append(float(-log_softmax(logits.double(), -1)[range(len(labels)), labels].mean()))
    return losses


def label_loss(reference: Reference, model: Any, ids: list[int], output: str, examples: Examples) -> float:
    labels = sorted({example.output for example in examples})
    base, tokenizer = reference.base.model, reference.base.tokenizer
    text = model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
    anchors = [base(input_ids=torch.tensor([tokenizer(t).input_ids])).last_hidden_state[0].mean(0) for t in labels]
    logits = torch.stack([20 * cosine_similarity(text, anchor, dim=0) for anchor in anchors])
    return float(-log_softmax(logits.double(), -1)[labels.index(output)])


def model_inputs(base: LoadedBase, examples: Examples) -> dict[str, Tensor]:
    """All examples cut to one length, so that both sides see the same rows."""
    rows = torch.tensor([(base.tokenizer(e.input + "abcde").input_ids)[:6] for e in examples])
    return {"input_ids": rows, **({"decoder_input_ids": rows[:, :3]} if base.kind == "seq2seq" else {})}


def test_logits_of_all_candidates_at_once_equal_those_of_peft(family: Any, setting: str, examples: Examples) -> None:
    base = family.base()
    method, params, scalings = SETTINGS[setting]
    adapters = family.adapters(base.model, scalings=scalings)
    stack = stack_adapters(adapters, method=method, params=params, dtype=torch.float64)
    inputs = model_inputs(base, examples)
    repeated = {name: value.repeat(len(WEIGHTS), 1) for name, value in inputs.items()}
    batched = BatchedModel(base.model, stack.module_shapes)
    with batched.mixed(stack.mix(torch.tensor(WEIGHTS)), candidates=len(WEIGHTS)), torch.inference_mode():
        output = base.model(**repeated)
    found = (output.logits if hasattr(output, "logits") else output.last_hidden_state).chunk(len(WEIGHTS))
    reference = Reference(base, family, adapters, setting)
    for row, logits in zip(WEIGHTS.tolist(), found, strict=True):
        torch.testing.assert_close(logits, reference.logits(row, inputs), rtol=0, atol=1e-9)


def test_losses_at_once_and_one_by_one_equal_those_of_peft(family: Any, setting: str, examples: Examples) -> None:
    base = family.base()
    method, params, scalings = SETTINGS[setting]
    adapters = family.adapters(base.model, scalings=scalings)
    scorer = make_scorer(base, examples=examples, adapters=adapters, method=method, params=params)
    reference = Reference(base, family, adapters, setting)
    expected = np.array([example_losses(reference, row, examples) for row in WEIGHTS.tolist()])
    at_once = scorer.example_losses(WEIGHTS)
    one_by_one = np.concatenate([scorer.example_losses(row[None]) for row in WEIGHTS])
    np.testing.assert_allclose(at_once, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(one_by_one, expected, rtol=0, atol=1e-9)
    # the adapters do change something, and no two candidates are alike
    assert len({round(float(loss), 6) for loss in expected.mean(1)}) == len(WEIGHTS)


@pytest.mark.parametrize("token_budget", [1, 30, 100_000])
def test_the_token_budget_does_not_change_a_loss(family: Any, token_budget: int, examples: Examples) -> None:
    base = family.base()
    adapters = family.adapters(base.model, scalings=(1.0,))
    expected = make_scorer(base, examples=examples, adapters=adapters).example_losses(WEIGHTS)
    found = make_scorer(base, examples=examples, adapters=adapters, token_budget=token_budget).example_losses(WEIGHTS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("instruction", ["", "bad cafe " * 4])
def test_generated_texts_of_all_candidates_at_once_equal_those_of_peft(
    generating_family: Any, examples: Examples, instruction: str
) -> None:
    examples = Examples(tuple(Example(instruction + e.input, e.output) for e in examples))
    base = generating_family.base()
    adapters = generating_family.adapters(base.model, scalings=(2.0, 0.5, 1.0))
    scorer = make_scorer(base, examples=examples, adapters=adapters, max_new_tokens=6)
    found = scorer.predictions(4 * WEIGHTS)
    reference = Reference(base, generating_family, adapters, "lorahub")
    for row, texts in zip((4 * WEIGHTS).tolist(), found, strict=True):
        model = reference.load(row)
        for example, text in zip(examples, texts, strict=True):
            ids = base.tokenizer(example.input).input_ids
            with torch.inference_mode():
                generated = model.generate(
                    input_ids=torch.tensor([ids]),
                    attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
                    max_new_tokens=6,
                    do_sample=False,
                    pad_token_id=0,
                )
            new = generated[0] if base.kind == "seq2seq" else generated[0, len(ids) :]
            assert text == base.tokenizer.decode(new, skip_special_tokens=True)
    assert len({tuple(texts) for texts in found}) > 1
