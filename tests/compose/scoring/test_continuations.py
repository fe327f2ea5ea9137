"""Texts that go on from what prompts share, padded or not, are those of computing every prompt whole and alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

from compose.examples import Example, Examples
from compose.scoring import LoadedBase, Scorer, make_scorer
from compose.scoring.metric_scorer import MetricScorer, per_example

WEIGHTS = 4 * np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, -0.7, 1.3], [-1.5, 0.2, -0.1]])
INSTRUCTION = "bad cafe " * 4
INPUTS = ["abc", "jih", "abcdef", "a", "fa", "gih a"]
INSTRUCTED = Examples(tuple(Example(INSTRUCTION + text, "abcd") for text in INPUTS))
SHORT = Examples(tuple(Example(text, "abcd") for text in INPUTS))
BOTH = {"shared": INSTRUCTED, "nothing shared": SHORT}


def family_of(name: str, families: Any, sliding: Any) -> Any:
    return families[name] if name in families else sliding(int(name))


def scorer_of(family: Any, base: LoadedBase, examples: Examples, **options: Any) -> Any:
    adapters = family.adapters(base.model, scalings=(2.0, 0.5))
    return make_scorer(base, examples=examples, adapters=adapters, max_new_tokens=7, **options)


def alone(family: Any, base: LoadedBase, examples: Examples) -> list[list[str]]:
    """One example at a time: nothing to share and nothing to pad."""
    columns = [scorer_of(family, base, Examples((row,))).predictions(WEIGHTS) for row in examples]
    return [[texts[k][0] for texts in columns] for k in range(len(WEIGHTS))]


class Tokens:
    """How many tokens a module computes."""

    def __init__(self, module: nn.Module) -> None:
        self.count = 0
        module.register_forward_hook(self._see)

    def _see(self, _module: nn.Module, inputs: tuple[torch.Tensor, ...], _output: object) -> None:
        self.count += inputs[0].shape[:-1].numel()


@pytest.mark.parametrize("which", BOTH)
@pytest.mark.parametrize("token_budget", [1, 60, 10_000])
@pytest.mark.parametrize("name", ["llama", "gpt2", "8", "45", "64"])  # numbers: of a sliding window
def test_texts_are_those_of_each_prompt_alone(
    families: Any, sliding: Any, name: str, token_budget: int, which: str
) -> None:
    family = family_of(name, families, sliding)
    base = family.base()
    scorer = scorer_of(family, base, BOTH[which], token_budget=token_budget)
    found = scorer.predictions(WEIGHTS)
    assert found == alone(family, base, BOTH[which])
    assert len({tuple(texts) for texts in found}) == len(WEIGHTS)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("llama", (True, True)),
        ("gpt2", (True, True)),
        ("64", (True, True)),
        ("45", (True, False)),
        ("8", (True, False)),
    ],
)
def test_padding_behind_the_prefix_is_given_up_where_a_window_would_count_it(
    families: Any, sliding: Any, name: str, way: tuple[bool, bool]
) -> None:
    family = family_of(name, families, sliding)
    answers = scorer_of(family, family.base(), INSTRUCTED)._answers
    assert (answers.shared, answers.pads) == (len(INSTRUCTION), way[1])
    assert scorer_of(family, family.base(), SHORT)._answers.pads, "at the front it is never seen"


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_prefix_is_computed_once_per_candidate_and_not_kept(families: Any, name: str) -> None:
    family = families[name]
    base = family.base()
    scorer = scorer_of(family, base, INSTRUCTED)
    scorer.predictions(WEIGHTS)
    layer = next(m for m in base.model.modules() if hasattr(m, "out_features") or hasattr(m, "nf"))
    tokens = Tokens(layer)
    scorer.predictions(WEIGHTS)
    of_an_example = max(map(len, INPUTS)) + scorer._max_new_tokens - 1  # nothing is computed of the last token
    assert tokens.count == len(WEIGHTS) * (len(INSTRUCTION) + len(INPUTS) * of_an_example)
    assert scorer._answers._prefix._held is None


def test_the_prefix_is_not_kept_behind_an_error_either(families: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    family = families["llama"]
    base = family.base()
    scorer = scorer_of(family, base, INSTRUCTED)
    assert scorer._answers.shared

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(base.model, "generate", fail)
    with pytest.raises(ZeroDivisionError):
        scorer.predictions(WEIGHTS)
    assert scorer._answers._prefix._held is None


def test_an_objective_of_texts_keeps_no_states_of_its_candidates(families: Any) -> None:
    scorer = scorer_of(families["llama"], families["llama"].base(), INSTRUCTED)
    metric = MetricScorer(scorer, per_example(lambda p, e: float(p == e)), examples=INSTRUCTED, name="same")
    assert np.isfinite(metric.example_losses(WEIGHTS)).all()
    assert len(scorer._prefix) and scorer._answers.shared
    assert scorer._prefix._held is None and scorer._answers._prefix._held is None


def own_inputs(model: Any, change: Any) -> None:
    """Let the model prepare what each step of `generate` is given in a way of its own."""
    kind = type(model)

    def prepare(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        inputs: dict[str, Any] = kind.prepare_inputs_for_generation(self, *args, **kwargs)
        change(inputs)
        return inputs

    model.__class__ = type(kind.__name__, (kind,), {"prepare_inputs_for_generation": prepare})


def from_zero(inputs: dict[str, Any]) -> None:
    if inputs["input_ids"].shape[1] > 1:
        inputs["position_ids"] = inputs["position_ids"] - inputs["position_ids"][:, :1]


def no_mask(inputs: dict[str, Any]) -> None:
    inputs["attention_mask"] = None


@pytest.mark.parametrize(("change", "way"), [(from_zero, (False, True)), (no_mask, (True, False))])
def test_a_model_that_prepares_its_steps_in_its_own_way_is_tried(
    families: Any, change: Any, way: tuple[bool, bool]
) -> None:
    family = families["gpt2"]
    base = family.base()
    expected = alone(family, base, INSTRUCTED)
    own_inputs(base.model, change)
    scorer = scorer_of(family, base, INSTRUCTED)
    assert (bool(scorer._answers.shared), scorer._answers.pads) == way
    assert scorer.predictions(WEIGHTS) == expected


def test_gradients_which_share_nothing_leave_the_texts_as_they_are(families: Any) -> None:
    family = families["llama"]
    base = family.base()
    scorer = scorer_of(family, base, INSTRUCTED)
    before = scorer.predictions(WEIGHTS)
    scorer.losses_and_gradients(WEIGHTS[:1])
    assert scorer.predictions(WEIGHTS) == before and scorer._answers.shared


def test_examples_of_different_lengths_are_generated_together(families: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every further group is all the steps of decoding once more."""
    family = families["llama"]
    base = family.base()
    scorer: Scorer = scorer_of(family, base, SHORT)
    scorer.predictions(WEIGHTS)
    calls: list[int] = []
    own = base.model.generate
    monkeypatch.setattr(base.model, "generate", lambda **given: calls.append(len(given["input_ids"])) or own(**given))
    scorer.predictions(WEIGHTS)
    assert calls == [len(WEIGHTS) * len(SHORT)]


def test_a_model_whose_generate_takes_no_states_computes_its_prompts_whole(families: Any) -> None:
    sizes = {"vocab_size": 14, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128}
    family = replace(
        families["gpt2"], targets=("c_attn",), build=lambda: OpenAIGPTLMHeadModel(OpenAIGPTConfig(**sizes))
    )
    base = family.base()
    scorer = scorer_of(family, base, INSTRUCTED)
    assert scorer._answers.shared == 0
    assert scorer.predictions(WEIGHTS) == alone(family, base, INSTRUCTED)
